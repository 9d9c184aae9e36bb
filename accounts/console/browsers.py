"""What browsers are called, for people who look for one that is not theirs."""

# The first word that a browser's description contains decides: those that pretend to be others come first.
_BROWSERS = {"Edg": "Edge", "OPR/": "Opera", "Firefox": "Firefox", "Chrom": "Chrome", "Safari": "Safari"}
_SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS": "macOS",
    "Linux": "Linux",
}


def browser_name(user_agent: str) -> str:
    """Return the name of a browser and of its system, such as "Firefox on Linux"; unknown ones describe themselves."""
    browser = next((name for word, name in _BROWSERS.items() if word in user_agent), None)
    system = next((name for word, name in _SYSTEMS.items() if word in user_agent), None)
    if browser and system:
        return f"{browser} on {system}"
    return browser or user_agent or "Unknown browser"
