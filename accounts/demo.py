"""The demo tenant, which PieSocket's SDKs connect to when they are given no options.

Its API key is public: it is printed in PieSocket's own documentation and is the default in its JavaScript SDK.
"""

DEMO_ACCOUNT_NAME = "demo"
DEMO_CLUSTER_ID = "demo"
DEMO_PUBLIC_KEY = "oCdCMcMPQpbvNjUIzqtvF1d2X2okWpDQj4AwARJuAgtjhzKxVEjQU6IdCjwm"
