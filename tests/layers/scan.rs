//! A small scanner of Rust sources: the paths a file mentions, with line and enclosing inline modules.
//! It knows comments, strings, characters and `use` trees; it does not know macros or types.

/// One path as written, `use` trees expanded: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Line of the path's first segment, from 1.
    pub(crate) line: usize,
    /// The segments; a glob is the segment `*`.
    pub(crate) path: Vec<String>,
    /// How many inline `mod name { … }` surround it.
    pub(crate) inline_depth: usize,
    /// Whether it stands in a `use` declaration.
    pub(crate) imported: bool,
}

/// A word or a sign of the program text, comments and literals left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Line, from 1.
    pub(crate) line: usize,
    /// An identifier, `::`, one other character, or [`DOC`] or [`INNER_DOC`] for a line of documentation.
    pub(crate) text: String,
}

/// The token of a `///` line.
pub(crate) const DOC: &str = "///";

/// The token of a `//!` line.
pub(crate) const INNER_DOC: &str = "//!";

/// Splits a source text into tokens. Strings, characters, lifetimes and comments other than documentation are
/// dropped.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let here = chars[at];
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        let end = match here {
            '/' if next == '/' => {
                let end = find(&chars, at, |c| c == '\n');
                let text: String = chars[at..end].iter().take(3).collect();
                if text == DOC || text == INNER_DOC {
                    out.push(Token { line, text });
                }
                end
            }
            '/' if next == '*' => block_comment_end(&chars, at),
            '"' => string_end(&chars, at),
            '\'' => match char_end(&chars, at) {
                Some(end) => end,
                None => find(&chars, at + 1, |c| !is_word(c)),
            },
            'r' | 'b' | 'c'
                if !prev_is_word(&chars, at) && literal_prefix(&chars, at).is_some() =>
            {
                literal_prefix(&chars, at).unwrap()
            }
            c if is_word(c) => {
                let end = find(&chars, at, |c| !is_word(c));
                out.push(Token { line, text: chars[at..end].iter().collect() });
                end
            }
            ':' if next == ':' => {
                out.push(Token { line, text: "::".to_owned() });
                at + 2
            }
            c => {
                if !c.is_whitespace() {
                    out.push(Token { line, text: c.to_string() });
                }
                at + 1
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    out
}

/// All paths of a source text.
pub(crate) fn mentions(source: &str) -> Vec<Mention> {
    let tokens = tokens(source);
    let mut out = Vec::new();
    // Brace depths at which inline modules opened.
    let (mut depth, mut inline): (usize, Vec<usize>) = (0, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        match text {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            "mod" if tokens.get(at + 2).is_some_and(|t| t.text == "{") => {
                inline.push(depth);
                depth += 1;
                at += 2;
            }
            "use" if opens_use(&tokens, at) => {
                at = use_tree(&tokens, at + 1, &[], inline.len(), &mut out);
            }
            _ if starts_path(&tokens, at) => {
                let line = tokens[at].line;
                let mut path = vec![tokens[at].text.clone()];
                while tokens.get(at + 1).is_some_and(|t| t.text == "::")
                    && tokens.get(at + 2).is_some_and(|t| t.text.chars().all(is_word))
                {
                    path.push(tokens[at + 2].text.clone());
                    at += 2;
                }
                out.push(Mention { line, path, inline_depth: inline.len(), imported: false });
            }
            _ => {}
        }
        at += 1;
    }
    out
}

/// `use` also stands in `impl Trait + use<'a>`: only one followed by a path is a declaration.
fn opens_use(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1).is_some_and(|t| t.text != "<")
}

/// A word with `::` behind it and none before it.
fn starts_path(tokens: &[Token], at: usize) -> bool {
    let is_first =
        at == 0 || tokens[at - 1].text != "::" || at == 1 || !ends_segment(&tokens[at - 2]);
    is_first
        && tokens[at].text.chars().all(is_word)
        && tokens.get(at + 1).is_some_and(|t| t.text == "::")
}

fn ends_segment(token: &Token) -> bool {
    token.text.chars().all(is_word) || token.text == ">"
}

/// Expands one `use` tree that begins at `at`; answers the index of its last token.
fn use_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    inline_depth: usize,
    out: &mut Vec<Mention>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |t| t.line);
    let mut is_alias = false;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t.text != "}") {
                    at = use_tree(tokens, at, &path, inline_depth, out);
                    if tokens.get(at).is_some_and(|t| t.text == ",") {
                        at += 1;
                    }
                }
                // The branch said everything: leave nothing for the end of this tree.
                path.clear();
            }
            "," | ";" | "}" => break,
            "as" => is_alias = true,
            word if is_alias => {
                debug_assert!(!word.is_empty());
            }
            "self" if !prefix.is_empty() => {}
            word => {
                if path.len() == prefix.len() {
                    line = token.line;
                }
                path.push(word.to_owned());
            }
        }
        at += 1;
    }
    if !path.is_empty() {
        out.push(Mention { line, path, inline_depth, imported: true });
    }
    at
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '*'
}

fn prev_is_word(chars: &[char], at: usize) -> bool {
    at > 0 && is_word(chars[at - 1]) && chars[at - 1] != '*'
}

fn find(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|i| stop(chars[*i])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut level, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                level += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                level -= 1;
                i += 2;
                if level == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of a character literal, or nothing when the quote begins a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        return Some(find(chars, at + 3, |c| c == '\'') + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// The end of `r"…"`, `r#"…"#`, `b"…"`, `b'…'`, `br"…"`, `c"…"` that begins at `at`, if one does.
fn literal_prefix(chars: &[char], at: usize) -> Option<usize> {
    let mut i = at;
    while i < at + 2 && matches!(chars.get(i), Some('r' | 'b' | 'c')) {
        i += 1;
    }
    let is_raw = chars[at..i].contains(&'r');
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    match chars.get(i + hashes) {
        Some('"') if is_raw => {
            let close: Vec<char> =
                std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let from = i + hashes + 1;
            let end = (from..chars.len()).find(|k| chars[*k..].starts_with(&close));
            Some(end.map_or(chars.len(), |end| end + close.len()))
        }
        Some('"') if hashes == 0 => Some(string_end(chars, i)),
        Some('\'') if hashes == 0 && chars[at] == 'b' && i == at + 1 => char_end(chars, i),
        _ => None,
    }
}

#[test]
fn a_use_tree_is_expanded() {
    let found: Vec<String> = mentions(
        "use crate::{a::{self, B}, c as d};\nuse smol::Executor;\nfn f() { x::y::<Z>(e) }",
    )
    .iter()
    .map(|m| format!("{} {}", m.line, m.path.join("::")))
    .collect();
    assert_eq!(found, ["1 crate::a", "1 crate::a::B", "1 crate::c", "2 smol::Executor", "3 x::y"],);
}

#[test]
fn comments_and_literals_do_not_count() {
    let source = r##"
        // tide::new
        /* tide::a /* nested */ tide::b */
        const A: &str = "tide::c \" tide::d"; const B: &[u8] = br#"tide::e "x" "#;
        const C: char = '"'; fn f<'a>(x: &'a str) { let y = '\''; tide::f() }
    "##;
    let found: Vec<_> = mentions(source).into_iter().map(|m| m.path.join("::")).collect();
    assert_eq!(found, ["tide::f"]);
}

#[test]
fn inline_modules_are_counted() {
    let found = mentions("a::b; mod tests { use super::c; mod deep { d::e; } } f::g;");
    let depths: Vec<_> = found.iter().map(|m| m.inline_depth).collect();
    assert_eq!(depths, [0, 1, 2, 0]);
}
