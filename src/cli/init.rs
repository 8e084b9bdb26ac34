//! `init`: writes a commented configuration file to start from.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Init;
use super::{CliError, Context, Exit};
use crate::app::unwritable_exit;
use crate::config::sample_file;
use crate::crypto::{Secret, token_text};

pub(super) fn run(context: &Context, args: &Init) -> Result<Exit, CliError> {
    let path = context.config.clone().unwrap_or_else(|| PathBuf::from("chatto.toml"));
    let fresh = || Secret::from(token_text());
    let (cookies, core, assets) = (fresh(), fresh(), fresh());
    let all = [
        ("webserver.cookie_signing_secret", &cookies),
        ("core.secret_key", &core),
        ("core.assets.signing_secret", &assets),
    ];
    let text = sample_file(if args.with_secrets { &all } else { &[] });
    write_new(&path, text.as_bytes()).map_err(|error| {
        let shown = path.display();
        CliError::new(
            unwritable_exit(&error),
            match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    format!("{shown} already exists and was not changed")
                }
                _ => format!("cannot create {shown}: {error}"),
            },
        )
    })?;
    let shown = path.display().to_string();
    context.output.result(&format!("{shown}\n"), json!({ "file": shown }));
    Ok(Exit::Success)
}

/// Writes a file that must not exist yet, readable by this account only.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
