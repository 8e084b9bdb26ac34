//! The command line as types; help, completions and the reference page are generated from them.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

mod backup;
mod usb;

pub(super) use backup::*;
pub(super) use usb::*;

/// chatto: a team-chat server for small boards.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    note = "Options go before or after the command. Results go to standard output, everything else to standard error.",
    error_code(0, "complete success; warnings are allowed"),
    error_code(1, "the operation failed or is incomplete"),
    error_code(2, "wrong usage"),
    error_code(65, "an archive or key file is damaged, from another server or too new"),
    error_code(69, "NATS or the store cannot be reached"),
    error_code(73, "the target already exists or cannot be created"),
    error_code(74, "a read or write error, a full disk, a damaged store"),
    error_code(75, "try again later: a lock is held, a port is in use"),
    error_code(77, "wrong passphrase, or permission denied"),
    error_code(78, "the configuration is invalid")
)]
pub(super) struct Chatto {
    /// configuration file; by default ./chatto.toml, then /etc/chatto/chatto.toml, then none
    #[argh(option, short = 'c', arg_name = "file")]
    pub(super) config: Option<PathBuf>,
    /// print one JSON object at the end
    #[argh(switch)]
    pub(super) json: bool,
    /// print results and errors only
    #[argh(switch, short = 'q')]
    pub(super) quiet: bool,
    /// how progress is shown: auto, plain, json or none
    #[argh(option, arg_name = "how", default = "Progress::Auto")]
    pub(super) progress: Progress,
    /// use no colours and no cursor movement
    #[argh(switch)]
    pub(super) no_color: bool,
    #[argh(subcommand)]
    pub(super) command: Command,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Auto,
    Plain,
    Json,
    None,
}

impl std::str::FromStr for Progress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "none" => Ok(Self::None),
            _ => Err("it must be auto, plain, json or none"),
        }
    }
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(super) enum Command {
    Init(Init),
    Start(Start),
    Status(Status),
    Doctor(Doctor),
    SetupLink(SetupLink),
    Invite(Invite),
    User(User),
    Assets(Assets),
    Backup(Backup),
    Restore(Restore),
    Keys(Keys),
    Usb(Usb),
    CheckConfig(CheckConfig),
    Version(Version),
    Completions(Completions),
}

/// Write a commented chatto.toml; an existing file is not changed.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "init")]
pub(super) struct Init {
    /// also write new secrets into the file, for several processes or an external cluster
    #[argh(switch)]
    pub(super) with_secrets: bool,
}

/// Run the server until SIGTERM or SIGINT; `run` is an alias.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "start")]
pub(super) struct Start {}

/// Show the state of the running server; exits with 0 if ready, 1 if not ready, 69 if not running.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status")]
pub(super) struct Status {
    /// print nothing, only set the exit code
    #[argh(switch)]
    pub(super) ready: bool,
}

/// Look for problems of settings, disk, clock, backups and server, and name their fixes; exits with 1 if something must
/// be done.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "doctor")]
pub(super) struct Doctor {
    /// also check what needs the network: host name, public URL, proxy, certificate, S3
    #[argh(switch)]
    pub(super) online: bool,
}

/// Print the one-time link that creates the first owner's account; valid for 30 minutes.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "setup-link")]
pub(super) struct SetupLink {}

/// List and revoke unused join links; `user create --link` creates one.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "invite")]
pub(super) struct Invite {
    #[argh(subcommand)]
    pub(super) command: InviteCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(super) enum InviteCommand {
    List(InviteList),
    Revoke(InviteRevoke),
}

/// List unused join links, newest first: id, expiry, creator, role, login, name, email; separated by tabs.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list")]
pub(super) struct InviteList {}

/// Revoke a join link, so that it can no longer be used.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "revoke")]
pub(super) struct InviteRevoke {
    /// id of the link, as `invite list` shows it
    #[argh(positional, arg_name = "id")]
    pub(super) id: String,
}

/// Manage accounts, with the server running or stopped.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "user")]
pub(super) struct User {
    #[argh(subcommand)]
    pub(super) command: UserCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(super) enum UserCommand {
    Create(UserCreate),
    List(UserList),
    SetPassword(UserSetPassword),
    Role(UserRole),
}

/// Create an account, or with --link print a one-time link that creates it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "create")]
pub(super) struct UserCreate {
    /// create no account: print a one-time join link, valid for 7 days
    #[argh(switch)]
    pub(super) link: bool,
    /// login; required without --link
    #[argh(option, arg_name = "login")]
    pub(super) login: Option<String>,
    /// name that others see; by default the login
    #[argh(option, arg_name = "name")]
    pub(super) display_name: Option<String>,
    /// email address; counts as verified
    #[argh(option, arg_name = "address")]
    pub(super) email: Option<String>,
    /// role in addition to everyone: owner, admin, moderator or a custom one
    #[argh(option, arg_name = "role")]
    pub(super) role: Option<String>,
    /// password; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(super) password: Option<String>,
    /// file whose first line is the password
    #[argh(option, arg_name = "file")]
    pub(super) password_file: Option<PathBuf>,
}

/// List accounts: id, login, name, roles, email; separated by tabs.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list")]
pub(super) struct UserList {
    /// only accounts whose login, name or email address contains this text
    #[argh(option, arg_name = "text")]
    pub(super) search: Option<String>,
    /// the most accounts to list; by default all
    #[argh(option, arg_name = "n")]
    pub(super) limit: Option<usize>,
    /// the number of accounts to skip
    #[argh(option, arg_name = "n", default = "0")]
    pub(super) offset: usize,
}

/// Set an account's password and end its sessions.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "set-password")]
pub(super) struct UserSetPassword {
    /// login of the account
    #[argh(positional, arg_name = "login")]
    pub(super) login: String,
    /// password; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(super) password: Option<String>,
    /// file whose first line is the password
    #[argh(option, arg_name = "file")]
    pub(super) password_file: Option<PathBuf>,
}

/// Add or remove a role of an account.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "role")]
pub(super) struct UserRole {
    #[argh(subcommand)]
    pub(super) command: UserRoleCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(super) enum UserRoleCommand {
    Add(UserRoleAdd),
    Remove(UserRoleRemove),
}

/// Add a role to an account.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "add")]
pub(super) struct UserRoleAdd {
    /// login of the account
    #[argh(positional, arg_name = "login")]
    pub(super) login: String,
    /// name of the role
    #[argh(positional, arg_name = "role")]
    pub(super) role: String,
}

/// Remove a role from an account.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "remove")]
pub(super) struct UserRoleRemove {
    /// login of the account
    #[argh(positional, arg_name = "login")]
    pub(super) login: String,
    /// name of the role
    #[argh(positional, arg_name = "role")]
    pub(super) role: String,
}

/// Check all files, or move them between NATS and S3, with the server running or stopped.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "assets")]
pub(super) struct Assets {
    #[argh(subcommand)]
    pub(super) command: AssetsCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(super) enum AssetsCommand {
    Check(AssetsCheck),
    Move(AssetsMove),
}

/// Read every file and list what is missing, damaged, undecryptable, unreadable or orphaned; exits with 1 for all but
/// orphaned.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "check")]
pub(super) struct AssetsCheck {}

/// Move existing files to the other place, each with a verified copy; interrupted, it goes on when it is run again.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "move")]
pub(super) struct AssetsMove {
    /// where files go: s3 or nats; new ones go where core.assets.storage_backend says
    #[argh(option, arg_name = "place")]
    pub(super) to: Target,
}

/// Where files are moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    S3,
    Nats,
}

impl std::str::FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "s3" => Ok(Self::S3),
            "nats" => Ok(Self::Nats),
            _ => Err("it must be s3 or nats"),
        }
    }
}

/// Restore a backup while no server runs; sessions end, and every client loads everything again.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "restore")]
pub(super) struct Restore {
    /// the archive
    #[argh(positional, arg_name = "file")]
    pub(super) file: PathBuf,
    /// what happens to streams that exist: error, skip or overwrite
    #[argh(option, arg_name = "rule", default = "Conflict::Error")]
    pub(super) conflict: Conflict,
    /// passphrase; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(super) passphrase: Option<String>,
    /// file with the passphrase
    #[argh(option, arg_name = "file")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// check everything and write nothing
    #[argh(switch)]
    pub(super) dry_run: bool,
    /// the highest scrypt work factor to accept, 10 to 20; by default what the memory allows
    #[argh(option, arg_name = "n")]
    pub(super) max_work_factor: Option<u8>,
}

/// What a restore does with streams that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    Error,
    Skip,
    Overwrite,
}

impl std::str::FromStr for Conflict {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self::Error),
            "skip" => Ok(Self::Skip),
            "overwrite" => Ok(Self::Overwrite),
            _ => Err("it must be error, skip or overwrite"),
        }
    }
}

/// Export the keys of messages to a file, or import them, with the server running or stopped.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "keys")]
pub(super) struct Keys {
    #[argh(subcommand)]
    pub(super) command: KeysCommand,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(super) enum KeysCommand {
    Export(KeysExport),
    Import(KeysImport),
}

/// Write the keys of all messages to a file, encrypted with a passphrase; data archives do not contain them.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "export")]
pub(super) struct KeysExport {
    /// file to write, or a directory for one named by the time; a former file is kept as FILE.old
    #[argh(option, short = 'o', arg_name = "file")]
    pub(super) output: PathBuf,
    /// passphrase; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(super) passphrase: Option<String>,
    /// file with the passphrase
    #[argh(option, arg_name = "file")]
    pub(super) passphrase_file: Option<PathBuf>,
}

/// Add the keys of an export that the store lacks or cannot read; nothing is replaced, and it may be repeated.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "import")]
pub(super) struct KeysImport {
    /// the export
    #[argh(positional, arg_name = "file")]
    pub(super) file: PathBuf,
    /// passphrase; visible in the process list, so prefer the prompt or a file
    #[argh(option, arg_name = "text")]
    pub(super) passphrase: Option<String>,
    /// file with the passphrase
    #[argh(option, arg_name = "file")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// after the loss of core.secret_key: make the keys readable with the present or a new one
    #[argh(switch)]
    pub(super) new_secret: bool,
}

/// Check the configuration and show each value with its source; secrets are hidden.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "check-config")]
pub(super) struct CheckConfig {}

/// Print version, target, features and the bundled nats-server.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "version")]
pub(super) struct Version {}

/// Print a completion script for a shell.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "completions")]
pub(super) struct Completions {
    /// bash, zsh or fish
    #[argh(positional, arg_name = "shell")]
    pub(super) shell: Shell,
}

/// A shell with a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl std::str::FromStr for Shell {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            _ => Err("it must be bash, zsh or fish"),
        }
    }
}
