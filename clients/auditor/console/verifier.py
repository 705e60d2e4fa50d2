"""A page that verifies one receipt by itself: HTML with its script and style inside, allowed by their hashes alone.

It is kept as a file and needs no network and no server; the log's key is typed in, or compared, by whoever verifies.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

_STATIC: Final = "static"
_WORDS: Final = tuple(
    f"verify.{word}" for word in "title lead key receipt run good bad entry leaf path note unsupported".split()
)


def page(receipt: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """The page, whole. ``words`` are the texts by key."""
    script, style = _file("receipt.js"), _file("receipt.css")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'"
    said = {key.partition(".")[2]: html.escape(words[key]) for key in _WORDS}
    shown = html.escape(json.dumps(receipt, ensure_ascii=False, indent=1), quote=False)
    return f"""<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{said["title"]}</title>
<style>{style}</style>
<main>
<h1>{said["title"]}</h1>
<p>{said["lead"]}</p>
<label for="key">{said["key"]}</label>
<input id="key" autocomplete="off" spellcheck="false" placeholder="log.example/zhifu+0123abcd+AQ…">
<label for="receipt">{said["receipt"]}</label>
<textarea id="receipt" rows="10" spellcheck="false">{shown}</textarea>
<button id="run" type="button">{said["run"]}</button>
<p id="verdict" role="status" data-good="{said["good"]}" data-bad="{said["bad"]}" \
data-unsupported="{said["unsupported"]}"></p>
<ol id="steps"><li data-step="leaf">{said["leaf"]}</li><li data-step="path">{said["path"]}</li>\
<li data-step="note">{said["note"]}</li></ol>
<pre id="entry" aria-label="{said["entry"]}"></pre>
</main>
<script>{script}</script>
"""


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(_STATIC, name).read_text("utf-8")


def _hash(content: str) -> str:
    """As CSP Level 3, section 2.3.1, names inline code."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
