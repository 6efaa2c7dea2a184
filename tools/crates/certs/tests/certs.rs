//! Goal: a person can make, renew and check certificates, loses none by mistake, and is told of
//! everything that would make a connection fail.
//! Method: run the real binary on a cluster.toml in a folder of its own, damage one file at a
//! time, and read what it says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tandem::config::{ClusterConfig, loopback_example};
use tandem::identity::Identity;
use tandem_certs::{
    Authority, Facts, Folder, Issue, Level, Pem, Validity, check, init, issue_leaf, make_ca,
};

const DAY: Duration = Duration::from_secs(86_400);

/// A folder with a cluster.toml, removed at the end.
struct Place {
    folder: PathBuf,
}

impl Place {
    /// `test` must be unique among the tests.
    fn new(test: &str) -> Place {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("cluster.toml"), loopback_example("demo", 2, 4700)).expect("written");
        Place { folder }
    }

    /// With all its certificates.
    fn filled(test: &str) -> Place {
        let place = Place::new(test);
        init(&place.config(), Issue::default()).expect("certificates");
        place
    }

    fn config(&self) -> ClusterConfig {
        ClusterConfig::load(self.folder.join("cluster.toml")).expect("a good example")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tandem-certs"))
            .args(arguments)
            .current_dir(&self.folder)
            .output()
            .expect("the binary runs")
    }

    /// What a run that succeeds prints.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a run that fails with exit code 1 prints on standard error.
    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// What `check` finds; it must fail.
    fn problems(&self) -> String {
        let output = self.run(&["check"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn certs(&self, file: &str) -> PathBuf {
        self.folder.join("certs").join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.certs(file)).expect("readable")
    }

    fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.certs(file)).expect("there").permissions().mode() & 0o777
    }

    fn authority(&self) -> Authority {
        let pem = Pem { certificate: self.read("ca.pem"), key: self.read("ca.key") };
        Authority::from_pem(pem).expect("a CA")
    }

    /// Puts the pair `pem` in the place of `stem`'s.
    fn put(&self, stem: &str, pem: &Pem) {
        fs::write(self.certs(&format!("{stem}.pem")), &pem.certificate).expect("written");
        fs::write(self.certs(&format!("{stem}.key")), &pem.key).expect("written");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What remains is removed by the next run.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn identity(text: &str) -> Identity {
    text.parse().expect("an identity")
}

fn year() -> Validity {
    Validity::from_now(DAY * 365).expect("a good validity")
}

#[test]
fn init_makes_everything_and_check_is_content() {
    let place = Place::new("init_makes_everything");
    let printed = place.done(&["init"]);
    assert_eq!(printed.matches("made  ").count(), 6, "{printed}");
    assert_eq!(place.done(&["check"]), "All 6 certificates of cluster \"demo\" are good.\n");
    assert_eq!(place.done(&["check", "-o", "json"]), "[]\n");
    assert_eq!(place.mode(""), 0o700);
    for stem in ["ca", "meta", "server-1", "server-2", "client-app", "admin-ops"] {
        assert_eq!(place.mode(&format!("{stem}.key")), 0o600, "{stem}.key");
        assert_eq!(place.mode(&format!("{stem}.pem")), 0o644, "{stem}.pem");
    }
    let files = fs::read_dir(place.certs("")).expect("the folder");
    assert_eq!(files.count(), 12, "nothing is left beside the pairs");
}

#[test]
fn init_keeps_what_is_there_and_makes_what_is_missing() {
    let place = Place::filled("init_keeps");
    let before = place.read("server-1.pem");
    fs::remove_file(place.certs("meta.pem")).expect("removed");
    fs::remove_file(place.certs("meta.key")).expect("removed");
    let printed = place.done(&["init"]);
    assert!(printed.contains("made  certs/meta.pem"), "{printed}");
    assert!(printed.contains("kept  certs/server-1.pem"), "{printed}");
    assert_eq!(place.read("server-1.pem"), before);
    place.done(&["check"]);
}

#[test]
fn force_renews_the_leaves_and_never_the_ca() {
    let place = Place::filled("force_renews");
    let (ca, leaf) = (place.read("ca.pem"), place.read("server-1.pem"));
    place.done(&["init", "--force", "--validity", "90d"]);
    assert_eq!(place.read("ca.pem"), ca);
    assert_ne!(place.read("server-1.pem"), leaf);
    let facts = Facts::read(&place.read("server-1.pem")).expect("readable");
    assert_eq!(facts.days_left(tandem::clock::wall_clock()), 89);
    place.done(&["check"]);
}

#[test]
fn init_refuses_what_would_lose_something() {
    let place = Place::filled("init_refuses");
    fs::remove_file(place.certs("server-1.key")).expect("removed");
    let said = place.failure(&["init"]);
    assert!(said.contains("only one is there"), "{said}");
    assert!(said.contains("tools/certs issue server 1 --force"), "{said}");
    place.done(&["issue", "server", "1", "--force"]);

    fs::rename(place.certs("ca.key"), place.certs("kept")).expect("moved");
    place.done(&["init"]);
    let said = place.failure(&["issue", "client", "new"]);
    assert!(said.contains("the CA's key certs/ca.key is needed to sign; put it back"), "{said}");

    fs::remove_file(place.certs("ca.pem")).expect("removed");
    let said = place.failure(&["init"]);
    assert!(said.contains("certs/meta.pem is there but its CA is not"), "{said}");
    assert!(!place.certs("ca.pem").exists(), "a refusal changes nothing");
}

#[test]
fn issue_makes_one_leaf_and_replaces_none() {
    let place = Place::filled("issue_makes_one");
    let said = place.failure(&["issue", "server", "1"]);
    assert!(said.contains("certs/server-1.pem or its key is there already"), "{said}");
    let printed = place.done(&["issue", "server", "7"]);
    assert!(printed.contains("made  certs/server-7.pem for tandem://demo/server/7"), "{printed}");
    assert!(printed.contains("cluster.toml does not list this party yet"), "{printed}");
    let said = place.failure(&["issue", "server", "x"]);
    assert!(said.contains("\"x\" is no server's id"), "{said}");
    let before = place.read("meta.pem");
    place.done(&["issue", "meta", "--force"]);
    assert_ne!(place.read("meta.pem"), before);
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let place = Place::new("mistakes");
    assert_eq!(place.run(&["issue", "boss", "1"]).status.code(), Some(2));
    assert_eq!(place.run(&["issue", "server"]).status.code(), Some(2));
    assert_eq!(place.run(&["show"]).status.code(), Some(2));
    let said = place.failure(&["init", "--config", "other.toml"]);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert!(said.contains("configuration other.toml: "), "{said}");
    let said = place.failure(&["issue", "server", "1"]);
    assert!(
        said.contains("there is no CA at certs/ca.pem; make it with: tools/certs init"),
        "{said}"
    );
    for (validity, problem) in [("0s", "out of range"), ("3651d", "longer than its CA")] {
        let said = place.failure(&["init", "--validity", validity]);
        assert!(said.contains(problem), "{said}");
        let said = place.failure(&["show", "--all"]);
        assert!(said.contains("has no certificates; make them with: tools/certs init"), "{said}");
    }
}

#[test]
fn check_finds_missing_files() {
    let place = Place::filled("check_missing");
    fs::remove_file(place.certs("server-1.key")).expect("removed");
    fs::remove_file(place.certs("server-2.pem")).expect("removed");
    fs::remove_file(place.certs("meta.pem")).expect("removed");
    fs::remove_file(place.certs("meta.key")).expect("removed");
    let said = place.problems();
    assert!(said.contains("certs/server-1.key: it is missing\n"), "{said}");
    assert!(said.contains("certs/server-2.pem: it is missing\n"), "{said}");
    assert!(said.contains("certs/meta.pem: it is missing, and its key\n"), "{said}");
    assert!(said.contains("remedy: tools/certs issue server 1 --force"), "{said}");
    assert_eq!(said.matches("problem: ").count(), 3, "{said}");
}

#[test]
fn check_finds_keys_that_others_may_read_or_that_fit_nothing() {
    let place = Place::filled("check_keys");
    fs::set_permissions(place.certs("meta.key"), Permissions::from_mode(0o640)).expect("set");
    let said = place.problems();
    assert!(said.contains("certs/meta.key: others may use this private key (mode 640)"), "{said}");
    assert!(said.contains("remedy: chmod 600 certs/meta.key"), "{said}");
    fs::set_permissions(place.certs("meta.key"), Permissions::from_mode(0o600)).expect("set");
    place.done(&["check"]);
    fs::write(place.certs("meta.key"), place.read("server-1.key")).expect("written");
    let said = place.problems();
    assert!(said.contains("meta.key: the key does not belong to its certificate"), "{said}");
    fs::write(place.certs("meta.key"), "nonsense").expect("written");
    let said = place.problems();
    assert!(said.contains("meta.key: there is no private key in PEM form"), "{said}");
}

#[test]
fn check_finds_wrong_identities_and_foreign_authorities() {
    let place = Place::filled("check_identities");
    let other = issue_leaf(&place.authority(), &identity("tandem://demo/server/2"), year());
    place.put("server-1", &other.expect("a leaf"));
    let said = place.problems();
    assert!(
        said.contains("it is of [\"tandem://demo/server/2\"], not of tandem://demo/server/1"),
        "{said}"
    );
    let foreign = make_ca("demo", year()).expect("a CA");
    let leaf = issue_leaf(&foreign, &identity("tandem://demo/server/1"), year()).expect("a leaf");
    place.put("server-1", &leaf);
    let said = place.problems();
    assert!(said.contains("certs/server-1.pem: peers that are dialled refuse it"), "{said}");
    // A server's certificate under a client's name may accept connections, and says who it is.
    let server = issue_leaf(&place.authority(), &identity("tandem://demo/server/1"), year());
    let server = server.expect("a leaf");
    place.put("server-1", &server);
    place.put("client-app", &server);
    let said = place.problems();
    assert!(said.contains("it may accept connections, which a client must not"), "{said}");
    // The reverse: a client's certificate can not stand in for a server.
    let client = issue_leaf(&place.authority(), &identity("tandem://demo/client/app"), year());
    let client = client.expect("a leaf");
    place.put("client-app", &client);
    place.put("server-1", &client);
    let said = place.problems();
    assert!(said.contains("certs/server-1.pem: peers that dial refuse it"), "{said}");
}

#[test]
fn check_finds_the_ca_of_another_cluster() {
    let place = Place::filled("check_other_cluster");
    place.put("ca", make_ca("other", year()).expect("a CA").pem());
    let said = place.problems();
    assert!(said.contains("this is the CA of cluster \"other\", not of \"demo\""), "{said}");
    let said = place.failure(&["issue", "server", "3"]);
    assert!(said.contains("is the CA of cluster \"other\", not of \"demo\""), "{said}");
}

#[test]
fn check_tells_what_expires_by_the_clock_it_is_given() {
    let place = Place::filled("check_expiry");
    let config = place.config();
    let now = tandem::clock::wall_clock();
    assert!(check(&config, now).is_empty());
    assert!(check(&config, now + DAY * 334).is_empty());
    let soon = check(&config, now + DAY * 336);
    assert_eq!(soon.len(), 5, "the leaves, not the CA");
    assert!(soon.iter().all(|finding| finding.level == Level::Warning), "{soon:?}");
    let late = check(&config, now + DAY * 366);
    assert_eq!(late.len(), 5);
    for finding in &late {
        assert_eq!(finding.level, Level::Problem, "{finding:?}");
        assert!(finding.problem.starts_with("it expired "), "{finding:?}");
        assert!(finding.remedy.contains("--force --config "), "{finding:?}");
    }
    let early = check(&config, now - DAY);
    assert_eq!(early.len(), 6);
    assert!(early[0].problem.starts_with("it is valid only from "), "{early:?}");
}

#[test]
fn an_expired_leaf_is_found_and_renewed() {
    let place = Place::filled("expired_leaf");
    let now = tandem::clock::wall_clock();
    let past = Validity { not_before: now - DAY * 2, not_after: now - DAY };
    let leaf = issue_leaf(&place.authority(), &identity("tandem://demo/admin/ops"), past);
    place.put("admin-ops", &leaf.expect("a leaf"));
    let said = place.problems();
    assert!(said.contains("certs/admin-ops.pem: it expired "), "{said}");
    assert!(said.contains("remedy: tools/certs issue admin ops --force"), "{said}");
    place.done(&["issue", "admin", "ops", "--force"]);
    place.done(&["check"]);
}

#[test]
fn show_prints_who_is_who() {
    let place = Place::filled("show");
    let table = place.done(&["show", "--all"]);
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.contains("tandem://demo/client/app"), "{table}");
    let json = place.done(&["show", "certs/server-1.pem", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(shown[0]["uris"][0], "tandem://demo/server/1");
    assert_eq!(shown[0]["days_left"], 364);
    assert_eq!(shown[0]["ca"], false);
    let said = place.failure(&["show", "cluster.toml"]);
    assert!(said.contains("there is no certificate in PEM form"), "{said}");
}

#[test]
fn two_processes_do_not_write_at_once() {
    let place = Place::filled("two_processes");
    let held = Folder::lock(place.config().certs()).expect("the lock");
    let said = place.failure(&["init"]);
    assert!(said.contains("another process writes to certs; try again"), "{said}");
    drop(held);
    place.done(&["init"]);
}
