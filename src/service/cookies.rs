//! The values of cookies: a signed, optionally encrypted session handle, and CSRF tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::crypto::{DataKey, MacKey, NONCE_BYTES, Secret, random};

/// Longer values are not ours and are not read.
const COOKIE_MAX_BYTES: usize = 512;
const NONCE: usize = 16;
/// Bound into the encryption of a handle.
const SEALED_AD: &[u8] = b"chatto_session";

/// Keys for cookies, from the cookie secrets.
pub(super) struct CookieKeys {
    signing: MacKey,
    csrf: MacKey,
    encryption: Option<DataKey>,
}

impl CookieKeys {
    pub(super) fn derive(signing: &Secret, encryption: Option<&Secret>) -> Self {
        Self {
            signing: MacKey::derive(signing, "chatto cookie v1"),
            csrf: MacKey::derive(signing, "chatto csrf v1"),
            encryption: encryption
                .map(|secret| DataKey::derive(secret, "chatto cookie encryption v1")),
        }
    }

    /// The cookie's value for a handle: `FORM.PAYLOAD.MAC`, form `s` signed, `e` also encrypted.
    pub(super) fn session(&self, handle: &[u8]) -> String {
        let (form, payload) = match &self.encryption {
            None => ('s', handle.to_vec()),
            Some(key) => ('e', key.seal_with_nonce(handle, SEALED_AD)),
        };
        let signed = format!("{form}.{}", BASE64.encode(payload));
        let mac = BASE64.encode(self.signing.mac(signed.as_bytes()));
        format!("{signed}.{mac}")
    }

    /// The handle in a cookie's value; `None` when it is not of our making.
    pub(super) fn handle(&self, cookie: &str) -> Option<Vec<u8>> {
        if cookie.len() > COOKIE_MAX_BYTES {
            return None;
        }
        let (signed, mac) = cookie.rsplit_once('.')?;
        if !self.signing.verify(signed.as_bytes(), &BASE64.decode(mac).ok()?) {
            return None;
        }
        let (form, payload) = signed.split_once('.')?;
        let payload = BASE64.decode(payload).ok()?;
        match form {
            "s" => Some(payload),
            "e" => {
                let (nonce, sealed) = payload.split_at_checked(NONCE_BYTES)?;
                self.encryption.as_ref()?.open(nonce, sealed, SEALED_AD).ok()
            }
            _ => None,
        }
    }

    /// A CSRF token for a session: nonce and code, of `[A-Za-z0-9._-]` only.
    pub(super) fn csrf(&self, user: &str, session: &[u8]) -> String {
        let nonce = BASE64.encode(random::<NONCE>());
        let mac = BASE64.encode(self.csrf.mac(&bound(&nonce, user, session)));
        format!("{nonce}.{mac}")
    }

    /// Whether a CSRF token belongs to this session.
    pub(super) fn csrf_is_valid(&self, token: &str, user: &str, session: &[u8]) -> bool {
        let Some((nonce, mac)) = token.split_once('.').filter(|_| token.len() <= COOKIE_MAX_BYTES)
        else {
            return false;
        };
        let Ok(mac) = BASE64.decode(mac) else { return false };
        self.csrf.verify(&bound(nonce, user, session), &mac)
    }
}

/// What a CSRF code covers. The session id has a fixed length and comes last.
fn bound(nonce: &str, user: &str, session: &[u8]) -> Vec<u8> {
    [nonce.as_bytes(), b".", user.as_bytes(), b".", session].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(signing: &str, encryption: Option<&str>) -> CookieKeys {
        let secret = |text: &str| Secret::from(text.to_owned());
        CookieKeys::derive(&secret(signing), encryption.map(secret).as_ref())
    }

    #[test]
    fn a_cookie_gives_its_handle_back() {
        for keys in [keys("sign", None), keys("sign", Some("encrypt"))] {
            let cookie = keys.session(b"handle");
            assert_eq!(keys.handle(&cookie).as_deref(), Some(&b"handle"[..]));
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            assert!(cookie.chars().all(plain), "{cookie}");
        }
    }

    #[test]
    fn any_change_of_a_cookie_is_seen() {
        for keys in [keys("sign", None), keys("sign", Some("encrypt"))] {
            let cookie = keys.session(b"handle");
            for place in 0..cookie.len() - 1 {
                let mut changed = cookie.clone().into_bytes();
                changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
                assert_eq!(keys.handle(&String::from_utf8(changed).unwrap()), None, "{place}");
            }
            for broken in ["", ".", "..", "s.", "s..", "x.YQ.YQ", &"a".repeat(600)] {
                assert_eq!(keys.handle(broken), None);
            }
        }
    }

    #[test]
    fn cookies_of_other_secrets_do_not_count() {
        let cookie = keys("sign", None).session(b"handle");
        assert_eq!(keys("other", None).handle(&cookie), None);
        let sealed = keys("sign", Some("encrypt")).session(b"handle");
        assert_eq!(keys("sign", Some("other")).handle(&sealed), None);
        assert_eq!(keys("sign", None).handle(&sealed), None);
        assert!(!sealed.contains(&BASE64.encode(b"handle")));
        let encrypting = keys("sign", Some("encrypt"));
        assert!(encrypting.handle(&cookie).is_some(), "turning encryption on ends no session");
    }

    #[test]
    fn csrf_tokens_are_bound_to_user_and_session() {
        let keys = keys("sign", None);
        let token = keys.csrf("Uada", b"session");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(token.chars().all(plain), "{token}");
        assert!(keys.csrf_is_valid(&token, "Uada", b"session"));
        assert!(!keys.csrf_is_valid(&token, "Ubob", b"session"));
        assert!(!keys.csrf_is_valid(&token, "Uada", b"another"));
        for broken in ["", ".", "a.b", token.split_once('.').unwrap().0] {
            assert!(!keys.csrf_is_valid(broken, "Uada", b"session"));
        }
        assert_ne!(token, keys.csrf("Uada", b"session"));
    }
}
