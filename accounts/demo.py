"""The demo tenant, to which PieSocket's SDKs connect by default.

Its API key is public: PieSocket's documentation prints it, and PieSocket's JavaScript SDK uses it by default.
`services.ensure_demo` creates the tenant.
"""

DEMO_ACCOUNT_NAME = "demo"
DEMO_CLUSTER_ID = "demo"
DEMO_OWNER = "demo@localhost"
DEMO_PUBLIC_KEY = "oCdCMcMPQpbvNjUIzqtvF1d2X2okWpDQj4AwARJuAgtjhzKxVEjQU6IdCjwm"
