"""Writes gateway/channels/public.toml from the public lists: `.venv/bin/python deploy/channels/refresh.py FOLDER`.

FOLDER holds SearchEngines.yml, Socials.yml and AIAssistants.yml of matomo-org/searchengine-and-social-list (CC0-1.0),
and ga4_source_categories.csv of Velir/dbt-ga4 (MIT). Only facts are taken: hosts, parameters, names. After it,
raise `edition` in gateway/channels/own.toml.
"""

import csv
import re
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

import yaml

TARGET = Path("gateway/channels/public.toml")
HEAD = """\
# Facts from public lists, written by deploy/channels/refresh.py; own.toml beside it wins.
# Search engines, social networks and AI assistants: matomo-org/searchengine-and-social-list, CC0-1.0.
# Hosts and names of search, social, video and shopping sites: Velir/dbt-ga4, MIT,
# Copyright (c) Velir: Google's table of source categories.
"""
CATEGORIES = {"SEARCH": "search", "SOCIAL": "social", "VIDEO": "video", "SHOPPING": "shopping"}


def path_prefix(pattern: str) -> str:
    """The path that a pattern of hidden keywords begins with; `*` for any."""
    bare = pattern.strip("/") if pattern.startswith("/") and pattern.endswith("/") else pattern
    bare = bare.replace("\\/", "/").replace("^$", "")
    prefix = "/" + re.split(r"[\\(\[?.*]", bare, maxsplit=1)[0].lstrip("/")
    return "*" if bare == ".*" else prefix


def engines(folder: Path) -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, definitions in yaml.safe_load((folder / "SearchEngines.yml").read_text("utf-8")).items():
        if name == "ChatGPT":
            continue
        for engine in definitions:
            params = sorted(each for each in engine["params"] if not each.startswith("/"))
            paths = {path_prefix(each) for each in engine.get("hiddenkeyword", ())} - {"/"}
            paths |= {path_prefix(each) for each in engine["params"] if each.startswith("/")}
            groups[" ".join(params), " ".join(sorted(paths))] += [url.rstrip("/") for url in engine["urls"]]
    lines = []
    for (params, paths), hosts in sorted(groups.items()):
        lines += ["", "[[engines]]", f'params = "{params}"', f'paths = "{paths}"', block("hosts", hosts)]
    return lines


def block(name: str, words: list[str]) -> str:
    text = textwrap.fill(" ".join(sorted(set(words))), 108, break_long_words=False, break_on_hyphens=False)
    return f'{name} = """\n{text}\n"""'


def main(folder: Path) -> None:
    hosts, names = defaultdict(list), defaultdict(list)
    for file, channel in (("Socials.yml", "social"), ("AIAssistants.yml", "ai_assistant")):
        for name, urls in yaml.safe_load((folder / file).read_text("utf-8")).items():
            hosts[channel] += urls
            names[channel].append(unquote(name).casefold().replace(" ", "_"))
    with (folder / "ga4_source_categories.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            channel = CATEGORIES[row["source_category"].removeprefix("SOURCE_CATEGORY_")]
            source = row["source"].casefold()
            (hosts if "." in source else names)[channel].append(source.replace(" ", "_"))
    lines = [HEAD, "[hosts]", *(block(name, words) for name, words in sorted(hosts.items()))]
    lines += ["", "[names]", *(block(name, words) for name, words in sorted(names.items()))]
    TARGET.write_text("\n".join([*lines, *engines(folder)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
