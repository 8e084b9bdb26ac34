//! The command that starts SeaweedFS, and what it leaves.

use std::fs;
use std::path::Path;
use std::process::Command;

/// May do everything.
pub(crate) const OWNER: (&str, &str) = ("owner-key", "owner-secret-key");
/// May only read, at SeaweedFS.
pub(crate) const READER: (&str, &str) = ("reader-key", "reader-secret-key");
/// The domain of virtual-hosted buckets, which a test's hosts file resolves.
pub(crate) const DOMAIN: &str = "s3.example.test";

/// The command that starts it without a bucket: its data in `dir`, S3 at `port`, its other parts at free ports. It
/// stores 50 volumes of `volume_mib` MiB at most; a bucket uses seven of them at once.
pub(crate) fn command(
    dir: &Path,
    port: u16,
    volume_mib: usize,
    free_port: impl Fn() -> u16,
) -> Command {
    let identity = |name: &str, (access, secret): (&str, &str), actions: &str| {
        format!(
            "{{\"name\":\"{name}\",\"credentials\":[{{\"accessKey\":\"{access}\",\"secretKey\":\"{secret}\"}}],\
             \"actions\":[{actions}]}}"
        )
    };
    let owner = identity("owner", OWNER, "\"Admin\",\"Read\",\"Write\",\"List\"");
    let reader = identity("reader", READER, "\"Read\",\"List\"");
    let identities = dir.join("identities.json");
    fs::write(&identities, format!("{{\"identities\":[{owner},{reader}]}}")).unwrap();
    let objects = dir.join("objects");
    fs::create_dir(&objects).unwrap();
    let mut command = Command::new("weed");
    command.arg("server").arg(format!("-dir={}", objects.display()));
    command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.autoCreateBucket=false"]);
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]);
    command.arg("-volume.max=50").arg(format!("-master.volumeSizeLimitMB={volume_mib}"));
    command.arg(format!("-s3.port={port}")).arg(format!("-s3.domainName={DOMAIN}"));
    command.arg(format!("-s3.config={}", identities.display()));
    for part in ["master", "volume", "filer"] {
        command.arg(format!("-{part}.port={}", free_port()));
    }
    for part in ["master", "volume", "filer", "s3"] {
        command.arg(format!("-{part}.port.grpc={}", free_port()));
    }
    command
}

/// The sockets that SeaweedFS makes in `/tmp` for its ports, and leaves there. They are removed when this is dropped.
pub(crate) struct Sockets(Vec<String>);

impl Sockets {
    /// Those of the ports in this command.
    pub(crate) fn of(command: &Command) -> Self {
        let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
        let of_port = |argument: String| {
            let (name, port) = argument.rsplit_once('=')?;
            name.contains(".port").then(|| format!("-{port}.sock"))
        };
        Self(arguments.filter_map(of_port).collect())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("seaweedfs-") && self.0.iter().any(|end| name.ends_with(end)) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}
