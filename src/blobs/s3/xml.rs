//! Finds elements in the XML that S3 services send, without judging it.
//!
//! Services leave elements out, add name spaces, or let a load balancer answer with HTML. What is not there is `None`;
//! nothing that a service sends is an error here.

/// The text of the first element of this name, with its entities resolved.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    elements(xml, name).next().map(unescaped)
}

/// The contents of all elements of this name, as written. Elements of one name are not nested in S3's answers.
pub(super) fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('<')?;
            rest = after;
            let (tag, after) = after.split_once('>')?;
            if local_name(tag) != name || tag.ends_with('/') {
                continue;
            }
            let (content, after) = until_end(after, name)?;
            rest = after;
            return Some(content);
        }
    })
}

/// The text before the end tag of this name, and the text after its `</`.
fn until_end<'a>(xml: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let end = xml.match_indices("</").find(|(at, _)| {
        let after = xml.get(at + 2..).unwrap_or_default();
        after.split_once('>').is_some_and(|(tag, _)| local_name(tag) == name)
    });
    let (content, after) = xml.split_at_checked(end?.0)?;
    Some((content, after.get(2..)?))
}

/// The name in a tag without name space and attributes.
fn local_name(tag: &str) -> &str {
    let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        // Not an entity: the sign stands for itself.
        match after.split_once(';').and_then(|(entity, after)| Some((character(entity)?, after))) {
            Some((c, after)) => {
                plain.push(c);
                rest = after;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

/// `text` for the inside of an element.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_whatever_surrounds_them() {
        let plain = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message> a &amp; b &#x41;&#66; </Message></Error>";
        assert_eq!(text(plain, "Code").as_deref(), Some("NoSuchKey"));
        assert_eq!(text(plain, "Message").as_deref(), Some("a & b AB"));
        assert_eq!(text(plain, "Region"), None);
        let spaced = "<s3:Error xmlns:s3=\"urn:x\"><s3:Code a=\"b\">X</s3:Code ></s3:Error>";
        assert_eq!(text(spaced, "Code").as_deref(), Some("X"));
    }

    #[test]
    fn repeated_elements_come_one_by_one() {
        let list = "<L><Key/><C><Key>a</Key></C><C><Key>b&amp;amp;</Key></C><Keys>no</Keys></L>";
        let keys: Vec<_> = elements(list, "C").filter_map(|c| text(c, "Key")).collect();
        assert_eq!(keys, ["a", "b&amp;"]);
        assert_eq!(elements(list, "Key").count(), 2);
    }

    #[test]
    fn broken_text_gives_nothing_and_never_fails() {
        let html = "<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body>";
        for broken in [
            "",
            "<",
            "<>",
            "<Code",
            "<Code>",
            "<Code>x",
            "<Code>x</",
            "</Code>",
            "<Code>é</Cod",
            html,
        ] {
            assert_eq!(text(broken, "Code"), None, "{broken}");
        }
        assert_eq!(
            text("<Code>&bogus; & &#xD800; &;</Code>", "Code").unwrap(),
            "&bogus; & &#xD800; &;"
        );
    }

    #[test]
    fn escaped_text_is_read_back() {
        let odd = "a<b>&\"c\" & é";
        assert_eq!(text(&format!("<K>{}</K>", escaped(odd)), "K").unwrap(), odd);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_scanned_to_its_end(pieces in proptest::collection::vec(
            proptest::sample::select(vec!["<", ">", "</", "/>", "Key", "C:Key", " a=\"", "&", "&#x", ";", "é", "\0", "</Key>", "<Key>"]), 0..40,
        )) {
            let any = pieces.concat();
            for found in elements(&any, "Key") {
                assert!(any.contains(found));
            }
            text(&any, "Key");
        }

        #[test]
        fn what_is_escaped_is_read_back(plain in "\\PC*") {
            let xml = format!("<a><Key>{}</Key></a>", escaped(&plain));
            assert_eq!(text(&xml, "Key").unwrap(), plain.trim());
        }
    }
}
