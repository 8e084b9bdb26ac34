//! `usb` and its commands.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Backups on memory sticks: pair one once, then plugging it in makes a verified backup on it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "usb")]
pub(in crate::cli) struct Usb {
    #[argh(subcommand)]
    pub(in crate::cli) command: UsbCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(in crate::cli) enum UsbCommand {
    Pair(UsbPair),
    List(UsbList),
    Unpair(UsbUnpair),
    Run(UsbRun),
}

/// Pair a stick with this server; it keeps what is on it. Only root can do this.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "pair")]
pub(in crate::cli) struct UsbPair {
    /// the partition of the stick, for example /dev/sda1
    #[argh(positional, arg_name = "device")]
    pub(in crate::cli) device: PathBuf,
    /// what to call the stick, at most 32 characters
    #[argh(option, arg_name = "name")]
    pub(in crate::cli) name: Option<String>,
    /// also write people's keys to the stick, encrypted: with the passphrase it then reveals every message
    #[argh(switch)]
    pub(in crate::cli) with_keys: bool,
    /// never write keys to the stick: messages restored from it need a key export kept elsewhere
    #[argh(switch)]
    pub(in crate::cli) without_keys: bool,
    /// chatto for the other architecture, to go onto the stick beside this one
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) binary: Option<PathBuf>,
    /// answer every other question with yes
    #[argh(switch, short = 'y')]
    pub(in crate::cli) yes: bool,
}

/// List the paired sticks: name, file system, keys, time of pairing, and whether it is plugged in; separated by tabs.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list")]
pub(in crate::cli) struct UsbList {}

/// Forget a paired stick: nothing is written to it any more; what is on it stays.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "forget")]
pub(in crate::cli) struct UsbUnpair {
    /// name of the stick, as `usb list` shows it
    #[argh(positional, arg_name = "stick")]
    pub(in crate::cli) stick: String,
}

/// Make a verified backup on a paired stick, and remove superseded ones; what plugging it in does. Only root can do this.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "run")]
pub(in crate::cli) struct UsbRun {
    /// the partition of the stick, for example /dev/sda1
    #[argh(positional, arg_name = "device")]
    pub(in crate::cli) device: PathBuf,
    /// file with the passphrase; by default the unit's credential, else backup-passphrase beside the configuration
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
}
