//! Tests of whole configurations: what is accepted, what is refused, and where values come from.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Case {
    dir: tempfile::TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl Case {
    fn new(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chatto.toml"), file).unwrap();
        Self { dir, variables: Vec::new() }
    }

    fn env(mut self, name: &str, text: &str) -> Self {
        self.variables.push((name.into(), text.into()));
        self
    }

    fn load(&self, purpose: Purpose) -> Result<Loaded, Vec<String>> {
        let inputs = Inputs {
            file: None,
            variables: self.variables.clone(),
            working_dir: self.dir.path().to_owned(),
            system_file: PathBuf::from("/nonexistent/chatto.toml"),
        };
        load(&inputs, purpose).map_err(|faults| faults.0.iter().map(ToString::to_string).collect())
    }

    fn faults(&self) -> Vec<String> {
        self.load(Purpose::Start).map_or_else(|faults| faults, |_| Vec::new())
    }

    fn warnings(&self) -> Vec<String> {
        self.load(Purpose::Start).unwrap().warnings.iter().map(ToString::to_string).collect()
    }
}

fn secret_text(secret: &Option<crate::crypto::Secret>) -> &str {
    std::str::from_utf8(secret.as_ref().unwrap().expose()).unwrap()
}

const EXTERNAL: &str = "[nats.embedded]\nenabled = false\n[nats.client]\nurl = \"nats://nats:4222\"\n\
    auth_method = \"token\"\ntoken = \"your-shared-token\"\n[webserver]\n\
    cookie_signing_secret = \"your-cookie-secret\"\n[core]\nsecret_key = \"your-core-secret\"\n\
    [core.assets]\nsigning_secret = \"your-assets-secret\"\n";

#[test]
fn nothing_at_all_is_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = Inputs {
        file: None,
        variables: Vec::new(),
        working_dir: dir.path().to_owned(),
        system_file: PathBuf::from("/nonexistent"),
    };
    let loaded = load(&inputs, Purpose::Start).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.file, None);
    assert_eq!(loaded.settings.webserver.port, 4000);
    assert_eq!(loaded.settings.data_dir, dir.path().join("data"));
    assert!(loaded.settings.embedded.unwrap().sync_interval.is_none());
}

#[test]
fn a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = Inputs {
        file: Some("missing.toml".into()),
        variables: Vec::new(),
        working_dir: dir.path().to_owned(),
        system_file: PathBuf::from("/nonexistent"),
    };
    let faults = load(&inputs, Purpose::Start).unwrap_err();
    assert_eq!(faults.0.len(), 1);
    assert_eq!(faults.0[0].to_string(), "missing.toml: no such file");
}

#[test]
fn environment_wins_over_file_over_secrets_over_default() {
    let case =
        Case::new("[webserver]\nport = 1000\n[core]\nsecret_key = \"from the file, 16 bytes+\"\n")
            .env("CHATTO_WEBSERVER_PORT", "2000");
    let data = case.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let secrets = data.join("secrets.toml");
    std::fs::write(
        &secrets,
        "core.secret_key = \"from secrets.toml, 16+\"\nwebserver.cookie_signing_secret = \"cookie from secrets.toml\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = case.load(Purpose::Start).unwrap().settings;
    assert_eq!(settings.webserver.port, 2000);
    assert_eq!(secret_text(&settings.core.secret_key), "from the file, 16 bytes+");
    assert_eq!(secret_text(&settings.webserver.cookie_signing_secret), "cookie from secrets.toml");
}

#[test]
fn relative_paths_start_at_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/chatto.toml"), "[nats.embedded]\ndata_dir = \"./d\"")
        .unwrap();
    let mut inputs = Inputs {
        file: Some("etc/chatto.toml".into()),
        variables: Vec::new(),
        working_dir: dir.path().to_owned(),
        system_file: PathBuf::from("/nonexistent"),
    };
    let loaded = load(&inputs, Purpose::Check).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.data_dir, dir.path().join("etc/d"));
    assert_eq!(settings.operator_socket, Some(dir.path().join("etc/d/run/operator.sock")));
    let backups = loaded.effective.iter().find(|one| one.name == "backup.directory").unwrap();
    assert_eq!(backups.value.as_deref(), dir.path().join("backups").to_str());
    inputs.variables.push(("CHATTO_BACKUP_DIRECTORY".into(), "backups".into()));
    let settings = load(&inputs, Purpose::Check).unwrap().settings;
    assert_eq!(settings.backup.directory, dir.path().join("etc/backups"));
}

#[test]
fn all_faults_are_reported_together() {
    let case =
        Case::new("[webserver]\nprot = 1\n[nats]\nreplicas = 2\n").env("CHATTO_NATS_REPLICA", "3");
    assert_eq!(
        case.faults(),
        [
            "chatto.toml:2: webserver.prot: unknown key; did you mean `port`?",
            "chatto.toml:4: nats.replicas: must be 1, 3 or 5",
            "CHATTO_NATS_REPLICA: unknown variable; did you mean `CHATTO_NATS_REPLICAS`?",
        ]
    );
}

#[test]
fn the_customers_external_block_is_accepted() {
    let case = Case::new(EXTERNAL);
    assert_eq!(case.faults(), [""; 0]);
    assert!(case.warnings().iter().any(|line| line.contains("webserver.url: is unset")));
    let settings = case.load(Purpose::Start).unwrap().settings;
    assert!(settings.embedded.is_none());
    assert!(matches!(settings.client.auth, crate::nats::Auth::Token(_)));
}

#[test]
fn external_needs_its_url_and_every_secret() {
    let case = Case::new("[nats.embedded]\nenabled = false\n");
    let keys: Vec<String> =
        case.faults().iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(
        keys,
        [
            "nats.client.url",
            "webserver.cookie_signing_secret",
            "core.secret_key",
            "core.assets.signing_secret"
        ]
    );
    let local = case.load(Purpose::Local).unwrap_err();
    assert_eq!(local.len(), 2, "a local command needs the store and its key only: {local:?}");
}

#[test]
fn refused_combinations() {
    for (file, key) in [
        ("[webserver.tls]\nenabled = true", "webserver.tls.cert_file"),
        ("[operator_api]\nsocket_mode = \"0666\"", "operator_api.socket_mode"),
        ("[nats]\nreplicas = 3", "nats.replicas"),
        ("[nats.client]\nurl = \"nats://elsewhere:4222\"", "nats.client.url"),
        ("[nats.client]\nurl = \"nats://127.0.0.1:4222\"", "nats.client.url"),
        ("[nats.client]\nauth_method = \"token\"", "nats.client.auth_method"),
        ("[nats.client]\nauth_method = \"token\"\nnkey_seed = \"x\"", "nats.client.auth_method"),
        ("[nats.client]\nauth_method = \"none\"\ntoken = \"x\"", "nats.client.auth_method"),
        ("[nats.client]\ntoken = \"x\"\nnkey_seed = \"x\"", "nats.client.auth_method"),
        ("[nats.client]\nusername = \"x\"", "nats.client.username"),
        ("[nats.client]\ncredentials_file = \"absent.creds\"", "nats.client.credentials_file"),
        ("[core.assets]\nstorage_backend = \"s3\"", "core.assets.s3.bucket"),
        ("[core.assets.s3]\npath_prefix = \"a//b\"", "core.assets.s3.path_prefix"),
        ("[core.assets.s3]\npath_prefix = \"a/../b\"", "core.assets.s3.path_prefix"),
        ("[core.assets.s3]\npath_prefix = \"a\\u0007\"", "core.assets.s3.path_prefix"),
        (
            "[core.assets.s3]\nendpoint = \"http://m:9000\"\nuse_ssl = true",
            "core.assets.s3.use_ssl",
        ),
        (
            "[core.assets.s3]\nbucket = \"b.example\"\nendpoint = \"s3.amazonaws.com\"",
            "core.assets.s3.path_style",
        ),
        (
            "[core.assets.s3]\nbucket = \"abc\"\nendpoint = \"[::1]:9000\"",
            "core.assets.s3.endpoint",
        ),
        ("[core.assets.s3]\nbucket = \"ABC\"\nendpoint = \"m\"", "core.assets.s3.bucket"),
        ("[core]\nsecret_key = \"fifteen bytes..\"", "core.secret_key"),
        ("[owners]\nemails = [\"anna\"]", "owners.emails"),
        ("[smtp]\nenabled = true", "smtp.host"),
    ] {
        let faults = Case::new(file).faults();
        assert!(faults.iter().any(|fault| fault.contains(key)), "{file}: {faults:?}");
    }
}

#[test]
fn accepted_combinations() {
    for file in [
        "[nats.embedded]\nport = 4222\n[nats.client]\nurl = \"nats://localhost:4222\"",
        "[core.assets.s3]\npath_prefix = \"/a/b/\"\nendpoint = \"m:9000\"",
        "[nats.client]\ntoken = \"x\"",
        "[webserver]\nport = 0",
    ] {
        assert_eq!(Case::new(file).faults(), [""; 0], "{file}");
    }
    let prefix = Case::new("[core.assets.s3]\npath_prefix = \"/a/b/\"\nendpoint = \"m:9000\"");
    let settings = prefix.load(Purpose::Start).unwrap().settings;
    assert_eq!(settings.assets.s3.unwrap().path_prefix, "a/b");
}

#[test]
fn weak_and_example_secrets_warn() {
    let weak = Case::new("[core]\nsecret_key = \"sixteen bytes...\"").warnings();
    assert!(weak[0].contains("core.secret_key: is shorter than 32 bytes"), "{weak:?}");
    let example = Case::new("[core]\nsecret_key = \"your-core-secret\"").warnings();
    assert!(example[0].contains("looks like a published example"), "{example:?}");
    for (setting, words) in [
        ("[nats.embedded]\nhttp_port = 8222", "has no authentication"),
        ("[nats.embedded]\nbind_address = \"0.0.0.0\"", "reached from the network"),
        ("[webserver]\ntrusted_proxies = [\"10.0.0.1\", \"0.0.0.0/0\"]", "trusted as a proxy"),
    ] {
        let exposed = Case::new(setting).warnings();
        assert!(exposed.iter().any(|line| line.contains(words)), "{setting}: {exposed:?}");
    }
    let nobody = Case::new("[auth]\ndirect_login = false").warnings();
    assert!(nobody[0].contains("nobody can log in"), "{nobody:?}");
}

#[test]
fn no_secret_is_ever_shown() {
    let marker = "super secret value 0123456789abcdef";
    let case = Case::new(&format!(
        "[core]\nsecret_key = \"{marker}\"\n[core.assets.s3]\nsecret_access_key = \"{marker}\"\n\
         [nats.client]\ntoken = \"{marker}\"\n"
    ));
    let loaded = case.load(Purpose::Check).unwrap();
    assert!(!format!("{loaded:?}").contains(marker));
}

#[test]
fn generated_secrets_are_kept_and_private() {
    let case = Case::new("");
    let data = case.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut settings = case.load(Purpose::Start).unwrap().settings;
    assert_eq!(complete_secrets(&mut settings).unwrap().len(), 3);
    let first = secret_text(&settings.core.secret_key).to_owned();
    assert!(first.len() >= 32);
    let mode = std::fs::metadata(data.join("secrets.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut again = case.load(Purpose::Start).unwrap().settings;
    assert_eq!(complete_secrets(&mut again).unwrap(), [""; 0]);
    assert_eq!(secret_text(&again.core.secret_key), first);
}

#[test]
fn a_store_without_its_key_gets_no_new_one() {
    let case = Case::new("");
    let data = case.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("initialised"), "").unwrap();
    let mut settings = case.load(Purpose::Start).unwrap().settings;
    let error = complete_secrets(&mut settings).unwrap_err();
    assert!(matches!(error, CompleteError::KeyOfStoreMissing { .. }));
    assert!(!data.join("secrets.toml").exists());
}

#[test]
fn damaged_secrets_are_refused_and_left_alone() {
    for content in [
        "",
        "core.secret_key = \"cut off",
        "core.secret_key = \"short\"",
        "core.secret_key = 5",
        "webserver.port = 80",
        "nonsense = 1",
        "\u{0}\u{0}\u{0}",
    ] {
        let case = Case::new("");
        let data = case.dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("secrets.toml"), content).unwrap();
        let faults = case.faults();
        assert_eq!(faults.len(), 1, "{content}: {faults:?}");
        assert!(faults[0].contains("is damaged"), "{content}: {faults:?}");
        assert_eq!(std::fs::read_to_string(data.join("secrets.toml")).unwrap(), content);
    }
}

#[test]
fn secrets_that_others_can_read_are_tightened() {
    let case = Case::new("");
    let data = case.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let path = data.join("secrets.toml");
    std::fs::write(&path, "core.secret_key = \"0123456789abcdef0123456789abcdef\"\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let looked = case.load(Purpose::Check).unwrap();
    assert!(looked.warnings[0].text.contains("will tighten"), "{:?}", looked.warnings);
    assert_eq!(mode(), 0o644);
    let started = case.load(Purpose::Start).unwrap();
    assert!(started.warnings[0].text.contains("tightened"), "{:?}", started.warnings);
    assert_eq!(mode(), 0o600);
}
