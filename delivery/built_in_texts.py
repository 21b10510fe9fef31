"""The texts of messages for which a workflow and the configuration name none."""

from typing import Final

TITLE: Final = "{{ workflow.name }}: {{ lead.name or lead.email or lead.id }}"

TEXT: Final = """\
{{ reason }}.

Lead: {{ lead.name or lead.id }}
{% if lead.company %}Company: {{ lead.company }}
{% endif %}{% if lead.email %}E-mail: {{ lead.email }}
{% endif %}{% if lead.phone %}Phone: {{ lead.phone }}
{% endif %}{% if lead.stage %}Stage: {{ lead.stage }}
{% endif %}{% if owner.name %}Owner: {{ owner.name }}
{% endif %}{% for model, score in lead.scores.items() %}Score by {{ model }}: {{ score }}
{% endfor %}
Workflow {{ workflow.id }}, {{ at }}
"""

HTML: Final = """\
<!doctype html>
<html lang="en"><body style="font-family: sans-serif">
<p>{{ reason }}.</p>
<table>
<tr><th align="left">Lead</th><td>{{ lead.name or lead.id }}</td></tr>
{% if lead.company %}<tr><th align="left">Company</th><td>{{ lead.company }}</td></tr>
{% endif %}{% if lead.email %}<tr><th align="left">E-mail</th><td>{{ lead.email }}</td></tr>
{% endif %}{% if lead.phone %}<tr><th align="left">Phone</th><td>{{ lead.phone }}</td></tr>
{% endif %}{% if lead.stage %}<tr><th align="left">Stage</th><td>{{ lead.stage }}</td></tr>
{% endif %}{% if owner.name %}<tr><th align="left">Owner</th><td>{{ owner.name }}</td></tr>
{% endif %}{% for model, score in lead.scores.items() %}<tr><th align="left">Score by {{ model }}</th><td>{{ score }}</td></tr>
{% endfor %}</table>
<p><small>Workflow {{ workflow.id }}, {{ at }}</small></p>
</body></html>
"""
