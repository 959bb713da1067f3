"""README as PyPI shows it: what is relative to the checkout there is an address of the version's own files here."""

from __future__ import annotations

import re
from typing import Any

# Inline links and pictures, reference definitions, and the HTML that README may have.
_LINK = re.compile(r"(?P<before>!?\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\()(?P<to>[^)\s]+)")
_DEFINITION = re.compile(r"^(?P<before>\[[^\]]+\]:\s+)(?P<to>\S+)", re.MULTILINE)
_HTML = re.compile(r"(?P<before>\b(?:src|srcset|href)=\")(?P<to>[^\"]+)")
_PICTURE = re.compile(r"\.(?:png|svg|gif|jpe?g|webp)$")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)


def for_pypi(text: str, project: dict[str, Any]) -> str:
    """Return a page of the checkout's top folder with its relative links made absolute; code stays as it is."""
    parts = _CODE.split(text)
    for number in range(0, len(parts), 2):
        for pattern in (_LINK, _DEFINITION, _HTML):
            parts[number] = pattern.sub(lambda found: found["before"] + absolute(found["to"], project), parts[number])
    # A link whose text is code is split above.
    joined = "".join(parts)
    return re.sub(r"(`\]\()([^)\s]+)", lambda found: found[1] + absolute(found[2], project), joined)


def absolute(target: str, project: dict[str, Any]) -> str:
    """Return the address of a link's target: of a page to read, or of a picture to show."""
    if re.match(r"[a-z][a-z+.-]*:|#", target):
        return target
    source = project["urls"]["Source"]
    path = target.partition("#")[0]
    if _PICTURE.search(path):
        return f"{source.replace('https://github.com', 'https://raw.githubusercontent.com')}/v{project['version']}/{target}"
    return f"{source}/blob/v{project['version']}/{target}"


def metadata_for_pypi(metadata: str, project: dict[str, Any]) -> str:
    """Return METADATA or PKG-INFO with README's links made absolute."""
    head, blank, body = metadata.partition("\n\n")
    return head + blank + for_pypi(body, project)
