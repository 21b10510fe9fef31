"""Leads of property agents by what they did, so many hours ago."""

from scoring.features.calendar import HOUR_MS, calendar
from scoring.features.features import Features, Signal
from scoring.features.view import Subject
from scoring.models.model import built_in_models, compile_model

NOW = 20_000 * 24 * HOUR_MS
IDLE = 30 * 60_000
UTC_DAYS = calendar("UTC")
OURS = frozenset({"call_made", "sms_sent", "email_sent"})
VOICE = compile_model(built_in_models()["temperature"]).signals[0].stored


def realty_lead(fields=None, **hours_ago):
    """`qr_scanned=[3, 1]`: two scans, three hours and one hour before NOW."""
    done = {VOICE if name == "voice" else name: hours for name, hours in hours_ago.items()}
    acts = [hour for name, hours in done.items() if name not in OURS for hour in hours]
    signals = {name: _signal(hours) for name, hours in {**done, "interaction": acts}.items() if hours}
    written = {name: (NOW, "e", value) for name, value in (fields or {}).items()}
    return Subject(Features(signals=signals, fields=written), "new")


def _signal(hours):
    moments = sorted(NOW - hour * HOUR_MS for hour in hours)
    day = UTC_DAYS.day_of(moments[-1])
    return Signal(len(moments), moments[0], moments[-1], day, bytes([len(moments)]))
