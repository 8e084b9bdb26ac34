//! `backup` and its commands.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Back up the server's data, with the server running or stopped; prints the archive's path.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "backup")]
pub(in crate::cli) struct Backup {
    /// file to write, or a directory; by default a file named by the time in backup.directory
    #[argh(option, short = 'o', arg_name = "path")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// encrypt the archive with a passphrase
    #[argh(switch)]
    pub(in crate::cli) encrypt: bool,
    /// passphrase; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(in crate::cli) passphrase: Option<String>,
    /// file with the passphrase
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
    /// whose bytes are included: nats, all (also files in S3) or none
    #[argh(option, arg_name = "which", default = "AssetChoice::Nats")]
    pub(in crate::cli) assets: AssetChoice,
    /// the same as --assets all
    #[argh(switch)]
    pub(in crate::cli) include_s3: bool,
    /// make the backup although the bytes of some files are missing, and list them in it
    #[argh(switch)]
    pub(in crate::cli) accept_missing: bool,
    /// read the archive again and check all of it
    #[argh(switch)]
    pub(in crate::cli) verify: bool,
    /// verify it, then remove older archives of this server in its directory; keep the last n
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_last: Option<u32>,
    /// keep one of each of the last n days that have one
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_daily: Option<u32>,
    /// keep one of each of the last n weeks that have one
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_weekly: Option<u32>,
    /// keep one of each of the last n months that have one
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_monthly: Option<u32>,
    /// show what the --keep options would remove, and remove nothing
    #[argh(switch)]
    pub(in crate::cli) prune_dry_run: bool,
    /// refuse to write to the file system of / or of the data: another medium must be mounted there
    #[argh(switch)]
    pub(in crate::cli) require_mount: bool,
    /// write an archive that is not encrypted even to a USB or removable disk, FAT or exFAT
    #[argh(switch)]
    pub(in crate::cli) allow_plaintext: bool,
    #[argh(subcommand)]
    pub(in crate::cli) command: Option<BackupCommand>,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(in crate::cli) enum BackupCommand {
    Verify(BackupVerify),
    List(BackupList),
    Prune(BackupPrune),
    Extract(BackupExtract),
}

/// Write rooms or files of an archive into a directory; without a room or file, list what it has.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "extract")]
pub(in crate::cli) struct BackupExtract {
    /// the archive
    #[argh(positional, arg_name = "file")]
    pub(in crate::cli) file: PathBuf,
    /// ids of files, ids or names of rooms
    #[argh(positional, arg_name = "room|file")]
    pub(in crate::cli) wanted: Vec<String>,
    /// where to write; by default the current directory
    #[argh(option, short = 'o', arg_name = "directory")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// how rooms are written: text or json, an object on each line
    #[argh(option, arg_name = "format", default = "RoomFormat::Text")]
    pub(in crate::cli) format: RoomFormat,
    /// key export, without which no message and no encrypted file can be read
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) keys: Option<PathBuf>,
    /// file with the passphrase of the key export; by default it is that of the archive
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) keys_passphrase_file: Option<PathBuf>,
    /// passphrase; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(in crate::cli) passphrase: Option<String>,
    /// file with the passphrase
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
    /// the highest scrypt work factor to accept, 10 to 20; by default what the memory allows
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) max_work_factor: Option<u8>,
    /// directory for the throwaway store of rooms; by default TMPDIR or /var/tmp
    #[argh(option, arg_name = "directory")]
    pub(in crate::cli) work_dir: Option<PathBuf>,
}

/// How rooms are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum RoomFormat {
    Text,
    Json,
}

impl std::str::FromStr for RoomFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it must be text or json"),
        }
    }
}

/// List the archives in a directory with number, state, size and time.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list")]
pub(in crate::cli) struct BackupList {
    /// the directory; by default backup.directory
    #[argh(positional, arg_name = "directory")]
    pub(in crate::cli) directory: Option<PathBuf>,
}

/// Remove archives that newer verified ones supersede; without --keep options 3 last, 14 daily, 8 weekly, 6 monthly stay.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "prune")]
pub(in crate::cli) struct BackupPrune {
    /// the directory; by default backup.directory
    #[argh(positional, arg_name = "directory")]
    pub(in crate::cli) directory: Option<PathBuf>,
    /// keep the last n
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_last: Option<u32>,
    /// keep one of each of the last n days that have one
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_daily: Option<u32>,
    /// keep one of each of the last n weeks that have one
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_weekly: Option<u32>,
    /// keep one of each of the last n months that have one
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) keep_monthly: Option<u32>,
    /// show what would be removed, and remove nothing
    #[argh(switch)]
    pub(in crate::cli) dry_run: bool,
}

/// Check an archive: its header, or every byte, hash and count of it; --restore-test also restores it. Needs no server.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "verify")]
pub(in crate::cli) struct BackupVerify {
    /// the archive, or with --newest a directory of archives
    #[argh(positional, arg_name = "file")]
    pub(in crate::cli) file: PathBuf,
    /// check the newest archive of this server in the directory
    #[argh(switch)]
    pub(in crate::cli) newest: bool,
    /// do nothing if a restore test was successful in the last n days
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) every: Option<u32>,
    /// how much is checked: header or full
    #[argh(option, arg_name = "level", default = "VerifyLevel::Full")]
    pub(in crate::cli) level: VerifyLevel,
    /// also restore it into a throwaway store, compare everything, and read every room
    #[argh(switch)]
    pub(in crate::cli) restore_test: bool,
    /// directory for the throwaway store; by default TMPDIR or /var/tmp
    #[argh(option, arg_name = "directory")]
    pub(in crate::cli) work_dir: Option<PathBuf>,
    /// also read the files that it only lists from the configured S3 bucket, and compare them
    #[argh(switch)]
    pub(in crate::cli) check_s3: bool,
    /// passphrase; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(in crate::cli) passphrase: Option<String>,
    /// file with the passphrase
    #[argh(option, arg_name = "file")]
    pub(in crate::cli) passphrase_file: Option<PathBuf>,
    /// the highest scrypt work factor to accept, 10 to 20; by default what the memory allows
    #[argh(option, arg_name = "n")]
    pub(in crate::cli) max_work_factor: Option<u8>,
}

/// How much of an archive is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum VerifyLevel {
    Header,
    Full,
}

impl std::str::FromStr for VerifyLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "header" => Ok(Self::Header),
            "full" => Ok(Self::Full),
            _ => Err("it must be header or full"),
        }
    }
}

/// Whose bytes a backup includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum AssetChoice {
    Nats,
    All,
    None,
}

impl std::str::FromStr for AssetChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "nats" => Ok(Self::Nats),
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => Err("it must be nats, all or none"),
        }
    }
}
