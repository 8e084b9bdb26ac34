//! The configuration: faults and warnings, with the nearest known key.

use crate::config::{Examined, Fault, Location};

use super::Check;

pub(super) const CONFIG: &str = "config";

pub(super) fn check(examined: &Examined) -> Vec<Check> {
    let file = examined.file.as_ref().map(|file| file.display().to_string());
    let mut checks: Vec<Check> = examined.faults.iter().map(fault).collect();
    checks.extend(examined.warnings.iter().map(|warning| {
        let check = Check::warn(CONFIG, warning.to_string());
        match place(&warning.location) {
            // What is wrong with a file as a whole has a check of its own.
            Some(_) if matches!(warning.location, Location::File(_)) => check,
            Some(place) => check.fix(format!("change it in {place}, then run chatto check-config")),
            None => check,
        }
    }));
    if examined.settings.is_none() {
        let text = "the configuration could not be read, so nothing that depends on it was checked";
        checks
            .push(Check::skipped(CONFIG, text).fix("correct the file, or run sudo chatto doctor"));
    } else if checks.is_empty() {
        let text = match file {
            Some(file) => format!("{file} has no faults"),
            None => "there is no configuration file: the defaults apply".to_owned(),
        };
        checks.push(Check::ok(CONFIG, text));
    }
    checks
}

fn fault(fault: &Fault) -> Check {
    // It is the account of this command that may not read it; the server's may.
    if fault.is_denied {
        return Check::skipped(CONFIG, fault.to_string()).fix("sudo chatto doctor");
    }
    let fix = match (&fault.nearest, place(&fault.location)) {
        (Some(nearest), Some(place)) => format!("write {nearest} in {place}"),
        (_, Some(place)) => format!("change it in {place}, then run chatto check-config"),
        (_, None) => "set it in the configuration, then run chatto check-config".to_owned(),
    };
    Check::fail(CONFIG, fault.to_string()).fix(fix)
}

fn place(location: &Location) -> Option<String> {
    match location {
        Location::Line { file, line } | Location::Column { file, line, .. } => {
            Some(format!("line {line} of {}", file.display()))
        }
        Location::File(file) => Some(file.display().to_string()),
        Location::Variable(name) => Some(format!("the environment variable {name}")),
        Location::Nowhere => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::config::{Inputs, Purpose, examine};

    fn checks(text: &str) -> Vec<Check> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chatto.toml"), text).unwrap();
        let inputs = Inputs {
            file: None,
            variables: Vec::new(),
            working_dir: dir.path().to_owned(),
            system_file: dir.path().join("none"),
        };
        check(&examine(&inputs, Purpose::Examine))
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_one_and_its_line() {
        let found = checks("[webserver]\nport = 4000\nprot = 80\n");
        let [unknown] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(unknown.verdict, Verdict::Fail);
        assert!(unknown.text.contains("did you mean `port`?"), "{unknown:?}");
        assert_eq!(unknown.fix.as_deref(), Some("write port in line 3 of chatto.toml"));
    }

    #[test]
    fn a_file_that_this_account_may_not_read_is_no_fault_of_the_settings() {
        let error = std::io::ErrorKind::PermissionDenied.into();
        let check = fault(&Fault::unreadable("/etc/chatto/chatto.toml".into(), &error));
        assert_eq!(
            (check.verdict, check.fix.as_deref()),
            (Verdict::Skipped, Some("sudo chatto doctor"))
        );
    }

    #[test]
    fn a_good_file_is_one_check_and_a_broken_one_ends_what_needs_it() {
        let good = checks("[webserver]\nport = 4000\n");
        assert_eq!(good, [Check::ok(CONFIG, "chatto.toml has no faults")]);
        let broken = checks("[webserver\n");
        assert_eq!(broken[0].verdict, Verdict::Fail, "{broken:?}");
        assert_eq!(broken.last().unwrap().verdict, Verdict::Skipped);
        let key_of_later = checks("[video]\nenabled = true\n");
        assert_eq!(key_of_later[0].verdict, Verdict::Warn, "{key_of_later:?}");
    }
}
