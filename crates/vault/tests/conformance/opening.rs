//! What is a place for a store, and what is not.

use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use testkit::s3::S3Server;
use vault::{Store, VaultError};

use crate::places::bytes;

/// Set for the child process of a test, which opens what it names.
const LOCATION: &str = "CONFORMANCE_LOCATION";

fn refused(location: &str) -> VaultError {
    let error = Store::open_with(location, []).expect_err("no place for a vault");
    assert!(matches!(error, VaultError::Location { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("\"{location}\" is no place for a vault"));
    assert!(error.source().is_some(), "it says why");
    error
}

#[test]
fn a_directory_is_a_store_and_so_is_its_url() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text");
    let store = Store::open_with(path, []).expect("a store");
    assert_eq!(store.place(), path);
    store.put("a/b", bytes(10, 1)).expect("stored");
    assert_eq!(std::fs::read(directory.path().join("a/b")).expect("a file"), bytes(10, 1));
    let same = Store::open_with(&format!("file://{path}"), []).expect("a store");
    assert_eq!(same.read_all("a/b").expect("read"), bytes(10, 1));
    let found = same.first().expect("a listing");
    assert_eq!(found.as_deref(), Some("a/b"), "it begins at the directory, not at the root");
}

#[test]
fn what_is_no_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text");
    std::fs::write(directory.path().join("file"), b"x").expect("written");
    let missing = refused(&format!("{path}/missing"));
    assert!(missing.source().is_some_and(|why| why.to_string().contains("No such file")));
    refused(&format!("{path}/file"));
    refused(&format!("{path}/file/below"));
    refused(&format!("file://{path}/missing"));
    refused(&format!("file://{path}/file"));
    refused("");
    assert!(!directory.path().join("missing").exists(), "nothing is made");
}

#[test]
fn what_is_no_store_is_refused() {
    // One that is gone with the process is none either.
    for location in [
        "memory:///",
        "memory:///x",
        "gopher://host/x",
        "http://host/x",
        "gs://bucket/x",
        "s3://",
        "://",
        "s3:///x",
    ] {
        refused(location);
    }
}

#[test]
fn a_setting_that_makes_no_sense_is_refused() {
    let setting = ("AWS_ALLOW_HTTP".to_owned(), "perhaps".to_owned());
    let error = Store::open_with("s3://bucket/x", [setting]).expect_err("that is no answer");
    assert!(matches!(error, VaultError::Location { .. }), "{error:?}");
}

#[test]
fn a_bucket_is_a_store() {
    let server = S3Server::start().expect("a server");
    for (url, key) in [("s3://vault", "x"), ("s3://vault/", "x"), ("s3://vault/a/b/", "a/b/x")] {
        let store = Store::open_with(url, server.settings()).expect("a store");
        store.put("x", bytes(10, 1)).expect("stored");
        assert!(server.keys().iter().any(|found| found == key), "{url}: {:?}", server.keys());
        assert_eq!(store.read_all("x").expect("read"), bytes(10, 1));
        assert_eq!(store.list("").expect("a listing").len(), 1);
    }
}

#[test]
fn who_may_not_or_looks_in_the_wrong_place_is_told() {
    let server = S3Server::start().expect("a server");
    let mut settings = server.settings();
    let nowhere = Store::open_with("s3://another/x", settings.clone()).expect("a store");
    let error = nowhere.put("name", bytes(1, 1)).expect_err("there is no such bucket");
    assert_eq!(error.to_string(), "cannot store s3://another/x/name");
    nowhere.list("").expect_err("there is no such bucket");
    nowhere.first().expect_err("there is no such bucket");

    for (name, value) in &mut settings {
        if name == "AWS_SECRET_ACCESS_KEY" {
            "a guess".clone_into(value);
        }
    }
    let stranger = Store::open_with("s3://vault/x", settings).expect("a store");
    let errors = [
        stranger.put("name", bytes(1, 1)).expect_err("nobody knows him"),
        stranger.read_all("name").expect_err("nobody knows him"),
        stranger.delete("name").expect_err("nobody knows him"),
    ];
    for error in errors {
        assert!(!error.is_not_found(), "{error}");
        assert!(error.to_string().ends_with(" s3://vault/x/name"), "{error}");
    }
    assert!(server.keys().is_empty());
}

#[test]
fn the_variables_of_the_environment_lead_to_a_bucket() {
    let server = S3Server::start().expect("a server");
    let this = std::env::current_exe().expect("this program");
    let child = Command::new(this)
        .args(["--exact", "opening::what_the_environment_names_is_written_to", "--nocapture"])
        .envs(server.settings())
        .env(LOCATION, server.url("from/a/child"))
        .output()
        .expect("a child process");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    assert_eq!(server.keys(), ["from/a/child/x"]);
}

/// By itself it looks at a directory; the test above runs it with variables that name a bucket.
#[test]
fn what_the_environment_names_is_written_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let location = std::env::var(LOCATION);
    let location = location.unwrap_or_else(|_| directory.path().to_str().expect("text").to_owned());
    let store = Store::open(&location).expect("a store");
    store.put("x", bytes(10, 1)).expect("stored");
    assert_eq!(store.read_all("x").expect("read"), bytes(10, 1));
}

#[test]
fn a_directory_that_may_be_read_and_not_entered_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text").to_owned();
    let store = Store::open_with(&path, []).expect("a store");
    store.put("accounts/glad/x", bytes(10, 1)).expect("stored");
    store.put("accounts/iris/x", bytes(10, 1)).expect("stored");
    let mode = |path: &str, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(directory.path().join(path), permissions).expect("set");
    };
    mode("", 0o755);
    mode("accounts/glad", 0o744);
    // Root may enter everything, so that it is somebody else who looks.
    thread::scope(|scope| {
        scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("another user");
            } else {
                mode("accounts/glad", 0o400);
            }
            let store = Store::open_with(&path, []).expect("a store");
            assert_eq!(store.list("accounts/iris").expect("a listing").len(), 1);
            let error = store.list("accounts/glad").expect_err("nobody knows what is there");
            assert_eq!(error.to_string(), format!("cannot list {path}/accounts/glad"));
        });
    });
    mode("accounts/glad", 0o755);
    assert_eq!(store.list("accounts/glad").expect("a listing").len(), 1);
}
