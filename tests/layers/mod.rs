//! Checks the code against the table in `src/README.md` (which module may use which, and which names belong to one
//! module), and the style rules that a program can check. The table is the only source: this file names no modules.

mod public;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use scan::Mention;

/// Lines of code in a source file, unit tests not counted. A longer file may no longer be about one subject.
const FILE_LINES_MAX: usize = 600;

/// Files above the limit, each with its ceiling and the reason. The list may only shrink.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// A script that looks for such folders itself.
const NAMES_FOLDERS: &str = "cross/check-static.sh";

/// Modules that every module may use, in addition to its row.
const COMMON: [&str; 2] = ["limits", "observe"];

/// Words of the last column of `docs/glossary.md` that have a right meaning beside the one that has another term, or
/// still have uses to rename. The list may only shrink.
const ORDINARY_WORDS: &[&str] = &[
    "To",
    "anew",
    "answer",
    "cause",
    "changed",
    "due",
    "effect",
    "failure",
    "found",
    "gone",
    "held room",
    "listener",
    "live",
    "log",
    "look",
    "mark",
    "part",
    "piece",
    "place",
    "refusal",
    "strip",
    "turn",
    "verdict",
    "waiting",
];

/// A row of the module table.
#[derive(Debug)]
struct Row {
    may_use: Vec<String>,
    alone: Vec<Vec<String>>,
}

/// What `src/README.md` says.
#[derive(Debug)]
struct Table {
    rows: BTreeMap<String, Row>,
    /// Name, and the modules (`http`) or files (`supervisor/child.rs`) that may mention it.
    shared: Vec<(Vec<String>, Vec<String>)>,
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table = table();
    let mut faults = String::new();
    for file in rust_files("src") {
        let source = read(&file);
        let own = module_of(&file);
        for mention in scan::mentions(&source) {
            let Some(used) = used_module(&file, &mention, &table) else { continue };
            let allowed = used == own
                || COMMON.contains(&used.as_str())
                || table.rows.get(&own).is_none_or(|row| row.may_use.contains(&used));
            if !allowed {
                fault(&mut faults, &file, mention.line, &format!("`{own}` may not use `{used}`"));
            }
        }
    }
    verdict(&faults);
}

#[test]
fn names_that_stand_alone_are_mentioned_by_their_module_only() {
    let table = table();
    let mut rules: Vec<(Vec<String>, Vec<String>)> = table.shared.clone();
    for (module, row) in &table.rows {
        rules.extend(row.alone.iter().map(|name| (name.clone(), vec![module.clone()])));
    }
    let mut faults = String::new();
    for file in rust_files("src").into_iter().filter(|file| !is_build_script(file)) {
        let own = module_of(&file);
        for mention in scan::mentions(&read(&file)) {
            for (name, owners) in &rules {
                let path = strip_root(&mention.path);
                let counts = path.starts_with(name) && (mention.imported || path.len() > 1);
                if counts && !owners.iter().any(|owner| owns(owner, &own, &file)) {
                    let text = format!("`{}` belongs to {}", name.join("::"), owners.join(", "));
                    fault(&mut faults, &file, mention.line, &text);
                }
            }
        }
    }
    verdict(&faults);
}

#[test]
fn stored_records_stay_in_storage() {
    let mut faults = String::new();
    let home = Path::new("src/storage/mod.rs");
    let is_private = read(home).lines().any(|line| line == "mod records {");
    if !is_private {
        fault(&mut faults, home, 1, "`records` is a private module");
    }
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        for mention in scan::mentions(&read(&file)) {
            let is_named = mention.path.windows(2).any(|pair| pair == ["storage", "records"]);
            if is_named && !file.starts_with("src/storage") {
                fault(&mut faults, &file, mention.line, "stored records belong to `storage`");
            }
        }
        let reexports = |line: &&str| line.starts_with("pub use") && line.contains("records");
        if file == home && read(&file).lines().any(|line| reexports(&line)) {
            fault(&mut faults, &file, 1, "no record leaves `storage`");
        }
    }
    verdict(&faults);
}

#[test]
fn unsafe_code_stands_where_the_table_says() {
    let table = table();
    let owners: Vec<&String> = table
        .shared
        .iter()
        .filter(|(name, _)| name.as_slice() == ["unsafe"])
        .flat_map(|(_, owners)| owners)
        .collect();
    assert!(!owners.is_empty(), "src/README.md has no row for `unsafe`");
    let mut faults = String::new();
    for file in rust_files("src") {
        for token in scan::tokens(&read(&file)).iter().filter(|t| t.text == "unsafe") {
            if !owners.iter().any(|owner| owns(owner, &module_of(&file), &file)) {
                fault(&mut faults, &file, token.line, "`unsafe` outside its file");
            }
        }
    }
    verdict(&faults);
}

#[test]
fn every_module_has_a_row_and_every_row_a_module() {
    let table = table();
    let lib = read(Path::new("src/lib.rs"));
    let mut declared: Vec<String> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    declared.sort();
    let rows: Vec<String> = table.rows.keys().cloned().collect();
    assert_eq!(declared, rows, "src/lib.rs and the table in src/README.md name different modules");
}

#[test]
fn files_open_with_their_purpose_and_stay_short() {
    let mut faults = String::new();
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let source = read(&file);
        if !source.starts_with("//! ") {
            fault(&mut faults, &file, 1, "a file opens with `//! ` and what it is responsible for");
        }
        let lines = without_unit_tests(&source).lines().count();
        let name = file.to_string_lossy();
        let exception = LONG_FILES.iter().find(|(path, _, _)| *path == name);
        let limit = exception.map_or(FILE_LINES_MAX, |(_, limit, _)| *limit);
        if lines > limit {
            fault(&mut faults, &file, lines, &format!("more than {limit} lines: split it"));
        }
        if exception.is_some() && lines <= FILE_LINES_MAX {
            fault(&mut faults, &file, lines, "is short now: take it out of LONG_FILES");
        }
    }
    for (path, _, reason) in LONG_FILES {
        assert!(Path::new(path).exists() && !reason.is_empty(), "LONG_FILES names {path}");
    }
    verdict(&faults);
}

#[test]
fn public_items_have_a_doc_comment() {
    let mut faults = String::new();
    for file in rust_files("src") {
        for item in public::undocumented(without_unit_tests(&read(&file))) {
            let text = format!("`{} {}` is public and has no doc comment", item.kind, item.name);
            fault(&mut faults, &file, item.line, &text);
        }
    }
    verdict(&faults);
}

#[test]
fn logs_name_the_causes_of_an_error() {
    // `:%` logs an error without its causes, `:err` with the whole chain.
    let mut faults = String::new();
    for file in rust_files("src") {
        for (number, line) in read(&file).lines().enumerate() {
            if ["error:% =", "error:? ="].iter().any(|field| line.contains(field)) {
                fault(&mut faults, &file, number + 1, "log it as `error:err = error`");
            }
        }
    }
    verdict(&faults);
}

#[test]
fn words_that_are_not_committed() {
    // Assembled here, so that the check does not find this file.
    let marks: Vec<String> = ["TO DO", "FIX ME", "X XX"].map(|mark| mark.replace(' ', "")).into();
    let tests_off = format!("#[{}", "ignore");
    let mut faults = String::new();
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        for (line, text) in (1..).zip(read(&file).lines()) {
            for mark in &marks {
                let open = text.find(mark.as_str()).map(|at| &text[at + mark.len()..]);
                if open.is_some_and(|rest| !rest.starts_with("(#")) {
                    fault(
                        &mut faults,
                        &file,
                        line,
                        &format!("{mark} without an issue: `{mark}(#n)`"),
                    );
                }
            }
            if text.trim_start().starts_with(&tests_off) {
                fault(&mut faults, &file, line, "a test that does not run proves nothing");
            }
        }
    }
    verdict(&faults);
}

#[test]
fn names_contain_no_word_that_the_glossary_replaces() {
    let glossary = read(Path::new("docs/glossary.md"));
    let cells = glossary.lines().filter_map(|line| line.split('|').nth(3));
    let mut words: Vec<&str> = cells.flat_map(|cell| cell.split(',').map(str::trim)).collect();
    words.retain(|word| !word.is_empty() && *word != "not");
    assert!(words.contains(&"whisper"), "docs/glossary.md has another form: {words:?}");
    for word in ORDINARY_WORDS {
        assert!(words.contains(word), "docs/glossary.md does not replace `{word}`");
    }
    words.retain(|word| !ORDINARY_WORDS.contains(word));
    let words: Vec<(&str, String)> =
        words.into_iter().map(|word| (word, format!("_{}_", in_snake_case(word)))).collect();
    let (mut faults, mut seen) = (String::new(), BTreeSet::new());
    for file in rust_files("src") {
        // Each name once, where it occurs first.
        for scan::Token { text: name, line } in scan::tokens(&read(&file)) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let snake = format!("_{}_", in_snake_case(&name));
            for (word, _) in words.iter().filter(|(_, in_name)| snake.contains(in_name)) {
                let text = format!("`{name}`: docs/glossary.md has another term for `{word}`");
                fault(&mut faults, &file, line, &text);
            }
        }
    }
    verdict(&faults);
}

#[test]
fn texts_name_no_folder_of_somebodys_machine() {
    let homes = ["/ro ot/", "/ho me/", "/wo rk/"].map(|home| home.replace(' ', ""));
    let mut faults = String::new();
    for folder in ["src", "tests", "docs", "cross", "systemd", "packaging", ".ci", ".config", "."] {
        let files = files(folder, if folder == "." { 0 } else { usize::MAX });
        for file in files.iter().filter(|file| is_text(file) && !file.ends_with(NAMES_FOLDERS)) {
            for (line, text) in (1..).zip(read(file).lines()) {
                if let Some(home) = homes.iter().find(|home| text.contains(home.as_str())) {
                    fault(&mut faults, file, line, &format!("{home} exists on one machine only"));
                }
            }
        }
    }
    verdict(&faults);
}

/// Reads both tables of `src/README.md`.
fn table() -> Table {
    let text = read(Path::new("src/README.md"));
    let mut table = Table { rows: BTreeMap::new(), shared: Vec::new() };
    let mut order: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`').to_owned();
        match cells.as_slice() {
            [_, _, may_use, alone] => {
                let row = Row { may_use: allowed(may_use, &order), alone: quoted(alone) };
                order.push(name.clone());
                table.rows.insert(name, row);
            }
            [_, owners, _] => {
                let owners = owners.split_whitespace().map(str::to_owned).collect();
                table.shared.push((segments(&name), owners));
            }
            _ => panic!("src/README.md: a table row has {} cells: {line}", cells.len()),
        }
    }
    for (name, row) in &table.rows {
        for used in &row.may_use {
            assert!(table.rows.contains_key(used), "src/README.md: `{name}` may use `{used}`?");
        }
    }
    table
}

/// The cell "may use": names, `all above`, or `–`. Words in brackets explain.
fn allowed(cell: &str, above: &[String]) -> Vec<String> {
    let words = cell.split('(').next().unwrap_or_default().trim();
    match words {
        "–" => Vec::new(),
        "all above" => above.to_vec(),
        _ => {
            let list: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            for used in &list {
                assert!(above.contains(used), "src/README.md: `{used}` must stand above its user");
            }
            list
        }
    }
}

/// The names in backticks in a cell, as path segments.
fn quoted(cell: &str) -> Vec<Vec<String>> {
    cell.split('`').skip(1).step_by(2).map(segments).collect()
}

fn segments(name: &str) -> Vec<String> {
    name.replace('-', "_").split("::").map(str::to_owned).collect()
}

/// The module a path leads to, when it leads to one: `crate::x`, or `super` often enough.
fn used_module(file: &Path, mention: &Mention, table: &Table) -> Option<String> {
    let path = mention.path.as_slice();
    let rest = match path.first()?.as_str() {
        "crate" => &path[1..],
        "super" => {
            let ups = path.iter().take_while(|s| *s == "super").count();
            if ups != depth_of(file) + mention.inline_depth {
                return None;
            }
            &path[ups..]
        }
        _ => return None,
    };
    rest.first().filter(|name| table.rows.contains_key(*name)).cloned()
}

/// The number of `super` from a file's module to the crate root.
fn depth_of(file: &Path) -> usize {
    let parts = file.components().count() - 1;
    if file.file_name().is_some_and(|name| name == "mod.rs") { parts - 1 } else { parts }
}

/// The module a file belongs to: the folder under `src`; `lib` and `main` for the roots.
fn module_of(file: &Path) -> String {
    let part = file.iter().nth(1).unwrap_or_default();
    Path::new(part).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A source text up to its unit tests, which stand at the end of a file.
fn without_unit_tests(source: &str) -> &str {
    source.split("\n#[cfg(test)]\nmod tests {\n").next().unwrap_or_default()
}

/// Build scripts are separate programs that generate what the module includes.
fn is_build_script(file: &Path) -> bool {
    let parts = ["src/build.rs", "codegen.rs", "embed.rs"];
    parts.iter().any(|part| file.ends_with(part))
}

fn owns(owner: &str, module: &str, file: &Path) -> bool {
    owner == module || Path::new("src").join(owner) == file
}

fn strip_root(path: &[String]) -> &[String] {
    if path.first().is_some_and(String::is_empty) { &path[1..] } else { path }
}

/// A name or term in lower case with underscores between its words.
fn in_snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && was_lower {
            snake.push('_');
        }
        was_lower = c.is_lowercase();
        if c == ' ' { snake.push('_') } else { snake.extend(c.to_lowercase()) }
    }
    snake
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let is_rust = |file: &PathBuf| file.extension().is_some_and(|end| end == "rs");
    files(folder, usize::MAX).into_iter().filter(is_rust).collect()
}

/// All files below a folder, sorted, without the output of builds and package managers.
fn files(folder: &str, levels: usize) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let path = path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if levels > 0 && name != "node_modules" && name != "target" {
                out.extend(files(&path.to_string_lossy(), levels - 1));
            }
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// Whether a file is text or source code; lock files and binaries do not count.
fn is_text(file: &Path) -> bool {
    let ends = ["rs", "md", "toml", "sh", "proto", "txt", "yml", "yaml", "service", "mod"];
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match file.extension() {
        Some(end) => ends.iter().any(|known| end == *known) && name != "chatto.toml",
        None => ["Makefile", "setup", "run"].contains(&name.as_ref()),
    }
}

fn read(file: &Path) -> String {
    let bytes = std::fs::read_to_string(file);
    bytes.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn fault(faults: &mut String, file: &Path, line: usize, rule: &str) {
    writeln!(faults, "{}:{line}: {rule}", file.display()).unwrap();
}

fn verdict(faults: &str) {
    assert!(faults.is_empty(), "\n{faults}");
}
