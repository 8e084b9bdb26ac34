//! The shape of the reference table: what a key is. The rows are in `keys`.
//!
//! Parsing, environment names, `check-config`, the sample file, `init` and the reference page are all
//! derived from it.

use super::keys::KEYS;

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Full dotted name. `[]` stands for the number of a list member; a trailing `*` covers every key
    /// with that prefix.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    pub default: Default,
    /// Whether this program uses it.
    pub stage: Stage,
    /// Whether its value is never shown, and may come from a file named by `<NAME>_FILE`.
    pub secret: bool,
    /// A former name in the file, still accepted.
    pub old_name: Option<&'static str>,
    /// A second environment name.
    pub env_alias: Option<&'static str>,
    /// One line for the sample file and the reference page.
    pub text: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Choice(&'static [&'static str]),
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    OneOf(&'static [i64]),
    /// A time such as `90d`, `1w`, `15m` or `30s`.
    Duration,
    /// `always` or a duration.
    Interval,
    /// A number of bytes such as `25MB` or `25MiB`.
    Size,
    /// A size in which `MB` and similar units count as `MiB`, as in existing files.
    BinarySize,
    /// `auto` or a size.
    AutoSize,
    /// `auto` or a whole number.
    AutoInt,
    /// A path, relative to the configuration file's directory.
    Path,
    /// The same, but its default is relative to the working directory.
    WorkPath,
    /// An http or https origin: scheme, host, optional port.
    Origin,
    /// An http, https, ws or wss URL.
    Url,
    Ip,
    /// A port, 0 included.
    Port,
    /// A list of texts, comma-separated or an array.
    List,
    NatsUrls,
    /// A list of networks: addresses, `address/prefix`, or `loopback`.
    Networks,
    /// Permission bits; only 0600 is allowed.
    Mode0600,
    /// Not checked.
    Any,
}

/// The value of a key that no source sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    Unset,
    /// This text, parsed like one from the environment.
    Value(&'static str),
    /// Determined at run time; the text says how.
    Derived(&'static str),
}

/// Whether this program uses a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Now,
    /// Checked like `Now`, but this version does not use it: one warning.
    Pending,
    /// Planned for a later version: one warning.
    Later,
    /// Known from other Chatto deployments: one warning.
    Recognised,
    /// Used in builds with the feature `test-support`, a fault in others.
    TestSupport,
}

impl Key {
    pub(super) const fn new(
        stage: Stage,
        name: &'static str,
        kind: Kind,
        default: Default,
        text: &'static str,
    ) -> Self {
        Self { name, kind, default, stage, secret: false, old_name: None, env_alias: None, text }
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(super) const fn formerly(mut self, name: &'static str) -> Self {
        self.old_name = Some(name);
        self
    }

    pub(super) const fn env_too(mut self, name: &'static str) -> Self {
        self.env_alias = Some(name);
        self
    }

    /// The environment variable of this key: `CHATTO_` and the name in capitals, dots as underscores;
    /// `[]` becomes `N`, the number of the member.
    #[must_use]
    pub fn env_name(&self) -> String {
        env_name(self.name)
    }

    /// Whether the row covers every key with its prefix.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.name.ends_with('*')
    }

    /// Whether this build uses the key, or at least checks it.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        match self.stage {
            Stage::Now | Stage::Pending => true,
            Stage::TestSupport => cfg!(feature = "test-support"),
            Stage::Later | Stage::Recognised => false,
        }
    }

    /// The section: everything before the last dot.
    #[must_use]
    pub fn section(&self) -> &'static str {
        section(self.name)
    }
}

/// The environment spelling of a dotted name.
pub(super) fn env_name(name: &str) -> String {
    let spelled = name.replace("[]", ".N").replace('.', "_");
    format!("CHATTO_{}", spelled.to_ascii_uppercase())
}

/// Everything before the last dot of a name.
pub(super) fn section(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(section, _)| section)
}

/// Everything after the last dot of a name.
pub(super) fn last_segment(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// The row of exactly this name, or of the former name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| !key.is_prefix() && (key.name == name || key.old_name == Some(name)))
}

/// The row whose prefix covers `name`.
pub(super) fn find_prefix(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        let stem = key.name.trim_end_matches('*');
        key.is_prefix() && (name.starts_with(stem) || format!("{name}.") == stem)
    })
}

/// Whether there are keys below this name.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| {
        key.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
    })
}

/// Whether a section is known from other deployments and unused here, so that
/// unknown keys in it are not faults.
pub(super) fn is_foreign_section(name: &str) -> bool {
    let mut keys = KEYS
        .iter()
        .filter(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '['])))
        .peekable();
    keys.peek().is_some() && keys.all(|key| matches!(key.stage, Stage::Later | Stage::Recognised))
}
