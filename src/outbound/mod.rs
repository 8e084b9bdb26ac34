//! Every call we make to the world: HTTP client with deadline and SSRF guard, mail, LiveKit, OIDC, push.
