"""The document around every page, and those pages that need no numerics.

Importing NumPy, SciPy and the drawings takes longer than all the rest of a start: until they are
there a reader is told that the folder is being read.
"""

from html import escape
from pathlib import Path


def document(title: str, body: str, *, head: str = "") -> str:
    """A whole page; `body` holds the element #live, and `head` is HTML too."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="stylesheet" href="/assets/dashboard.css">\n'
        '<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">\n'
        f"{head}"
        '</head>\n<body class="dashboard">\n<a class="skip" href="#content">To the content</a>\n'
        '<button type="button" id="theme" class="chip">Theme: auto</button>\n'
        f'{body}\n<p id="news" role="status" aria-live="polite"></p>\n'
        '<div id="tip" role="tooltip" hidden></div>\n'
        '<script src="/assets/page.js"></script>\n<script src="/assets/live.js"></script>\n'
        "</body>\n</html>\n"
    )


def error_page(message: str) -> str:
    """A document for what can't be shown; the message is one line."""
    return document(
        "Not shown",
        f'<main id="live" data-version="0"><h1>This can\'t be shown</h1><p>{escape(message)}</p>'
        '<p><a href="/overview">To the overview</a></p>'
        '<script type="application/json" id="tips">[]</script></main>',
    )


def opening_page(root: Path) -> str:
    """The document before anything of the folder is known; `live.js` asks for what follows."""
    name = escape(root.name or str(root))
    return document(
        f"Overview · {root.name or 'results'}",
        # No version of the folder, so that any is new.
        '<div id="live" data-version="" data-pending="0">'
        f'<header class="bar"><h1>{name}</h1>'
        '<p class="live still"><span id="connection" class="dot"></span>starting</p></header>'
        f'<main id="content" tabindex="-1"><p class="empty">{escape(being_read(root))}</p></main>'
        '<script type="application/json" id="tips">[]</script></div>',
        # Who browses without scripts asks again, and is answered when there is something.
        head='<noscript><meta http-equiv="refresh" content="1"></noscript>\n',
    )


def being_read(root: Path) -> str:
    """What is said while the folder is read."""
    return f"{root} is being read; what is found appears here by itself."
