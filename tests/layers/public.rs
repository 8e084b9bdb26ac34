//! Finds the public items of a source text that have no doc comment. rustc's `missing_docs` asks for one on
//! fields and variants too, where a comment often only repeats the name; this check leaves those alone.

use super::scan::{DOC, INNER_DOC, Token, tokens};

/// A public item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Line of the item's name, from 1.
    pub(crate) line: usize,
    /// Its keyword: `fn`, `struct`, …
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// Words that may stand between `pub` and an item's keyword. `const` is also a keyword of its own.
const QUALIFIERS: [&str; 4] = ["const", "async", "unsafe", "extern"];

/// The keywords of items that need a comment. Fields have none, and `use` repeats what is documented elsewhere.
const KINDS: [&str; 9] =
    ["mod", "struct", "enum", "union", "trait", "type", "const", "static", "fn"];

/// The public modules, types, constants and functions without a doc comment, and such functions of public
/// traits. A `pub mod name;` is documented by the `//!` of its file.
pub(crate) fn undocumented(source: &str) -> Vec<Item> {
    let tokens = tokens(source);
    let mut out = Vec::new();
    let mut depth = 0;
    // The depth inside of the public trait that is being read.
    let mut trait_depth = None;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => {
                if trait_depth == Some(depth) {
                    trait_depth = None;
                }
                depth -= 1;
            }
            "pub" => {
                let Some(keyword) = keyword(&tokens, at + 1) else { continue };
                if tokens[keyword].text == "trait" {
                    trait_depth = Some(depth + 1);
                }
                if !is_documented(&tokens, at) && !is_documented_inside(&tokens, keyword) {
                    out.push(item(&tokens, keyword));
                }
            }
            "fn" if trait_depth == Some(depth) => {
                let first = first_qualifier(&tokens, at);
                if !is_documented(&tokens, first) {
                    out.push(item(&tokens, at));
                }
            }
            _ => {}
        }
    }
    out
}

/// The index of the item's keyword, when an item begins at `at`.
fn keyword(tokens: &[Token], mut at: usize) -> Option<usize> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    while QUALIFIERS.contains(&text(at))
        && (QUALIFIERS.contains(&text(at + 1)) || text(at + 1) == "fn")
    {
        at += 1;
    }
    // A macro gives its caller's name and comment to such an item.
    let is_named_by_macro = text(at + 1) == "$";
    (KINDS.contains(&text(at)) && !is_named_by_macro).then_some(at)
}

/// The first of the qualifiers that stand before the keyword at `at`.
fn first_qualifier(tokens: &[Token], mut at: usize) -> usize {
    while at > 0 && QUALIFIERS.contains(&tokens[at - 1].text.as_str()) {
        at -= 1;
    }
    at
}

/// Whether a `///` stands before the item that begins at `at`, attributes skipped.
fn is_documented(tokens: &[Token], mut at: usize) -> bool {
    while at > 0 && tokens[at - 1].text == "]" {
        let mut open = 0;
        while at > 0 {
            at -= 1;
            match tokens[at].text.as_str() {
                "]" => open += 1,
                "[" => open -= 1,
                "#" if open == 0 => break,
                _ => {}
            }
        }
    }
    at > 0 && tokens[at - 1].text == DOC
}

/// Whether the keyword at `at` is a module's whose documentation is inside of it or in its own file.
fn is_documented_inside(tokens: &[Token], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    text(at) == "mod" && (text(at + 2) == ";" || text(at + 3) == INNER_DOC)
}

fn item(tokens: &[Token], keyword: usize) -> Item {
    let name = tokens.get(keyword + 1).map_or_else(String::new, |token| token.text.clone());
    Item { line: tokens[keyword].line, kind: tokens[keyword].text.clone(), name }
}

fn found(source: &str) -> Vec<String> {
    undocumented(source)
        .iter()
        .map(|item| format!("{} {} {}", item.line, item.kind, item.name))
        .collect()
}

#[test]
fn a_public_item_without_a_comment_is_found() {
    let source = "\
pub mod a { }
pub struct B { pub field: u8 }
pub enum C { Variant }
pub trait D { fn e(&self); async fn f(&self) { g() } }
pub type H = u8;
pub const I: u8 = 1;
pub static J: u8 = 1;
impl B { #[must_use] pub const fn k(&self) -> u8 { 1 } }
// A comment that documents nothing.
pub async unsafe fn l() {}
";
    let all = [
        "1 mod a",
        "2 struct B",
        "3 enum C",
        "4 trait D",
        "4 fn e",
        "4 fn f",
        "5 type H",
        "6 const I",
        "7 static J",
        "8 fn k",
        "10 fn l",
    ];
    assert_eq!(found(source), all);
}

#[test]
fn documented_and_private_items_are_not_found() {
    let source = "
//! The file.
pub mod a;
pub mod b {
    //! Inside.
}
/// Attributes may stand between.
#[derive(Debug, Clone)]
#[expect(clippy::x, reason = \"a [b] c\")]
pub struct C { pub field: [u8; 1], other: u8 }
#[must_use]
/// Or before.
pub fn d() {}
/// One with functions.
pub trait E {
    /// Documented.
    #[must_use]
    async fn f(&self);
}
impl E for C { async fn f(&self) {} }
trait G { fn h(&self); }
pub(crate) fn i() {}
pub use j::k;
fn l() { let text = \"pub fn m() {}\"; }
macro_rules! n { ($(#[$doc:meta])* $o:ident) => { $(#[$doc])* pub struct $o; } }
";
    assert_eq!(found(source), [""; 0]);
}
