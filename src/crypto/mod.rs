//! Secrets, password hashes, tokens, body and file encryption, key wrapping, age.
