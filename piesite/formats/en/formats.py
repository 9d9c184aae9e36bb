"""How pages show dates and times: short, and without "a.m." and "p.m."."""

DATE_FORMAT = "j M Y"
DATETIME_FORMAT = "j M Y, H:i"
