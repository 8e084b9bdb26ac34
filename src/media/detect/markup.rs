//! HTML, XHTML, SVG and other XML: text that a browser would run scripts of.
//!
//! White space, comments, processing instructions and a byte order mark may come first, in UTF-8 or UTF-16. When in
//! doubt, the answer is markup: it is only ever sent as an attachment.

const HTML: &str = "text/html";
const XHTML: &str = "application/xhtml+xml";
const SVG: &str = "image/svg+xml";
const XML: &str = "application/xml";

/// How much of a text is looked at. A comment may be long.
const TEXT_MAX_BYTES: usize = 64 * 1024;

/// Tags with which a browser takes a text for HTML (WHATWG MIME Sniffing, 7.1), and some more.
const HTML_TAGS: [&str; 29] = [
    "html", "head", "body", "script", "iframe", "h1", "h2", "h3", "div", "font", "table", "a",
    "style", "title", "b", "br", "p", "img", "form", "meta", "link", "base", "object", "embed",
    "frameset", "video", "audio", "template", "svg",
];

/// The type of a text that is markup.
pub(super) fn content_type(beginning: &[u8]) -> Option<&'static str> {
    let text = text(beginning.get(..TEXT_MAX_BYTES).unwrap_or(beginning));
    let mut rest = text.trim_start_matches(is_space);
    let (mut is_xml, mut is_html) = (false, false);
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(tag) = rest.strip_prefix('<') else {
            // Something else than a tag: a declaration before it decides.
            return declared(is_xml, is_html);
        };
        if let Some(comment) = tag.strip_prefix("!--") {
            // A comment that does not end within what is looked at: markup of an unknown kind.
            let Some((_, after)) = comment.split_once("-->") else { return Some(HTML) };
            rest = after;
        } else if let Some(instruction) = tag.strip_prefix('?') {
            is_xml |= begins_with(instruction, "xml");
            let Some((_, after)) = instruction.split_once("?>") else {
                return declared(is_xml, is_html);
            };
            rest = after;
        } else if begins_with(tag, "!doctype") {
            let name = name_of(tag.get("!doctype".len()..)?.trim_start_matches(is_space));
            is_html |= name.eq_ignore_ascii_case("html");
            is_xml |= !is_html;
            let Some(after) = after_doctype(tag) else { return declared(is_xml, is_html) };
            rest = after;
        } else {
            return root(tag, is_xml, is_html);
        }
    }
}

fn declared(is_xml: bool, is_html: bool) -> Option<&'static str> {
    match (is_xml, is_html) {
        (true, true) => Some(XHTML),
        (true, false) => Some(XML),
        (false, true) => Some(HTML),
        (false, false) => None,
    }
}

/// The type of a text whose first element begins with `tag`.
fn root(tag: &str, is_xml: bool, is_html: bool) -> Option<&'static str> {
    let name = name_of(tag);
    let attributes = tag.get(name.len()..)?;
    let attributes = attributes.split_once('>').map_or(attributes, |(attributes, _)| attributes);
    let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
    let is = |other: &str| local.eq_ignore_ascii_case(other);
    if is("svg") && (!is_html || is_xml) {
        return Some(SVG);
    }
    if is("html") && is_xml {
        return Some(XHTML);
    }
    if is_xml || is_html {
        return declared(is_xml, is_html);
    }
    let ends_like_tag =
        tag.get(name.len()..)?.starts_with(|next| is_space(next) || matches!(next, '>' | '/'));
    if ends_like_tag && HTML_TAGS.iter().any(|html| is(html)) {
        return Some(HTML);
    }
    (!name.is_empty() && attributes.contains("xmlns")).then_some(XML)
}

/// What follows a document type declaration, which may contain declarations in brackets.
fn after_doctype(tag: &str) -> Option<&str> {
    let end = tag.find(['[', '>'])?;
    let rest = tag.get(end..)?;
    match rest.strip_prefix('[') {
        None => rest.strip_prefix('>'),
        Some(inner) => {
            let (_, after) = inner.split_once(']')?;
            after.split_once('>').map(|(_, after)| after)
        }
    }
}

fn name_of(tag: &str) -> &str {
    let end =
        tag.find(|character: char| is_space(character) || matches!(character, '>' | '/' | '['));
    tag.get(..end.unwrap_or(tag.len())).unwrap_or_default()
}

fn begins_with(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(word))
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{c}' | '\u{feff}')
}

/// The text in its encoding; what is not valid becomes other characters.
fn text(bytes: &[u8]) -> String {
    let units = |to_unit: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| to_unit(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => units(u16::from_le_bytes, rest),
        [0xFE, 0xFF, rest @ ..] => units(u16::from_be_bytes, rest),
        [b'<', 0, ..] => units(u16::from_le_bytes, bytes),
        [0, b'<', ..] => units(u16::from_be_bytes, bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
