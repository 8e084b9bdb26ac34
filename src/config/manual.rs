//! The manual page chatto.toml(5), generated from the table of keys.

use roff::{Roff, bold, italic, roman};

use super::keys::KEYS;
use super::reference::{default_words, kind_words};
use super::table::Stage;
use crate::golden;

const INTRODUCTION: [&str; 4] = [
    "Every key is optional. Values come from, in this order: the environment, this file, generated secrets in \
     secrets.toml of the data directory, the defaults below.",
    "The environment name of a key is CHATTO_ and the key in capitals with underscores for dots: nats.replicas is \
     CHATTO_NATS_REPLICAS. Lists are separated by commas. An empty value counts as unset. With _FILE at the end of its \
     name, the variable of a secret names a file that has it.",
    "Durations look like 90d, 15m or 30s, sizes like 25MB (decimal) or 25MiB (binary). Paths are relative to the \
     directory of this file.",
    "chatto check-config shows each value with its source and reports all faults together. systemctl restart chatto \
     applies a change.",
];

fn page() -> String {
    let mut page = Roff::new();
    let version = concat!("chatto ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["CHATTO.TOML", "5", "", version, "File Formats"]);
    page.control("SH", ["NAME"]).text([roman("chatto.toml - configuration of the chatto server")]);
    page.control("SH", ["SYNOPSIS"]).text([
        italic("/etc/chatto/chatto.toml"),
        roman(", "),
        italic("./chatto.toml"),
    ]);
    page.control("SH", ["DESCRIPTION"]);
    for (number, text) in INTRODUCTION.iter().enumerate() {
        if number > 0 {
            page.control("PP", []);
        }
        page.text([roman(*text)]);
    }
    let mut section = "";
    for key in KEYS.iter().filter(|key| key.stage == Stage::Now) {
        let top = key.name.split('.').next().unwrap_or_default();
        if top != section {
            section = top;
            page.control("SH", [top.to_uppercase().as_str()]);
        }
        page.control("TP", []).text([bold(key.name)]);
        let default = default_words(key).replace('`', "").replace("&lt;", "<").replace("&gt;", ">");
        page.text([roman(format!("{}. {}; default: {default}", key.text, kind_words(key)))]);
    }
    page.control("SH", ["SEE ALSO"]).text([bold("chatto"), roman("(1)")]);
    page.to_roff()
}

#[test]
fn the_manual_page_is_made_from_the_table() {
    golden::compare("packaging/man/chatto.toml.5", &page());
}
