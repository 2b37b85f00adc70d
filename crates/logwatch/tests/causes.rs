//! Each reason for a noise but those that are in the logs of `real.rs`.

use logwatch::line::LineReader;
use logwatch::noise::{Cause, Noise};
use logwatch::time::{Civil, Time};
use logwatch::{Mode, Watcher};

/// Knows who logs in, each minute of four days from 1 November 2026 on.
fn watcher() -> Watcher {
    let mut watcher = Watcher::default();
    for minute in 0..4 * 24 * 60 {
        for user in ["glad", "iris", "ann", "bob", "eve"] {
            let message = format!("login: localhost [127.0.0.1] {user} plain User logged in");
            take(&mut watcher, minute * 60, 1, &message, Mode::Learn);
        }
    }
    watcher
}

/// Takes a line that was written so many seconds after these days began.
fn take(watcher: &mut Watcher, second: i64, pid: u32, message: &str, mode: Mode) {
    let (day, second) = (second / 86_400 + 1, second % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let line = format!(
        "2026-11-{day:02}T{hour:02}:{minute:02}:{second:02} h cyrus/imap[{pid}]: {message}"
    );
    watcher.take(&LineReader::new(Time(0)).read(line.as_bytes()), mode);
}

const END: i64 = 4 * 86_400;

/// The noises that lines make, each a second after the one before, by processes of their own.
fn noises<'a>(watcher: &mut Watcher, lines: impl IntoIterator<Item = &'a str>) -> Vec<Noise> {
    for (second, message) in (END..).zip(lines) {
        take(watcher, second, second as u32, message, Mode::Watch);
    }
    watcher.stop_waiting();
    watcher.noises(watcher.now())
}

fn names(noises: &[Noise]) -> Vec<&'static str> {
    noises.iter().map(|noise| noise.cause.name()).collect()
}

#[test]
fn what_is_new_is_told_once_by_its_name() {
    let strange = "a line that nobody has ever seen";
    assert_eq!(names(&noises(&mut watcher(), [strange; 9])), ["never-seen"]);
    let failure = "could not do what nobody has ever asked for";
    assert_eq!(names(&noises(&mut watcher(), [failure; 9])), ["unknown-failure"]);
    let everyday = "login: localhost [127.0.0.1] glad plain User logged in";
    assert_eq!(names(&noises(&mut watcher(), [everyday; 9])), [""; 0]);
}

#[test]
fn a_failure_that_others_have_had_is_told_for_a_user_who_had_none() {
    let failed =
        |user: &str| format!("badlogin: localhost [127.0.0.1] plaintext ({user}) [SASL(-13)]");
    let mut watcher = watcher();
    for minute in 0..60 {
        take(&mut watcher, END - 3600 + minute * 60, 1, &failed("glad"), Mode::Learn);
    }
    let mut told = |user: &str| names(&noises(&mut watcher, [failed(user).as_str()]));
    assert!(told("glad").is_empty(), "it is everyday for her");
    assert!(told("stranger").is_empty(), "nobody has that name");
    assert_eq!(told("iris"), ["first-failure"]);
    assert!(told("iris").is_empty());
}

#[test]
fn far_too_many_are_one_storm() {
    let everyday = "login: localhost [127.0.0.1] glad plain User logged in";
    let mut watcher = watcher();
    for _ in 0..5000 {
        take(&mut watcher, END, 1, everyday, Mode::Watch);
    }
    watcher.stop_waiting();
    let told = watcher.noises(watcher.now());
    assert_eq!(names(&told), ["storm"]);
    assert!(matches!(told[0].cause, Cause::Rate { within: 60, usual: 5, .. }), "{:?}", told[0]);
}

#[test]
fn what_strangers_write_raises_no_alarm() {
    let mut watcher = watcher();
    let opened = |mailbox: &str| format!("open: user glad opened user.glad.{mailbox}");
    take(&mut watcher, END - 60, 1, &opened("Sent"), Mode::Learn);
    let hostile = ["DBERROR", "no-space-left-on-device", "IOERROR", "SYNCERROR-bailing-out"];
    let lines = hostile.map(opened);
    assert_eq!(names(&noises(&mut watcher, lines.each_ref().map(String::as_str))), [""; 0]);
}

#[test]
fn more_kinds_than_are_kept_are_said_once() {
    let mut watcher = watcher();
    let letters = |n: u32| -> String {
        (0..6).map(|at| char::from(b'a' + (n.rotate_left(at * 5) % 26) as u8)).collect()
    };
    let mut kinds = 0;
    for n in 0..20_000_u32 {
        let [a, b, c] = [n, n.wrapping_mul(7), n.wrapping_mul(13)].map(letters);
        take(&mut watcher, END + i64::from(n), n, &format!("{a} {b} {c}"), Mode::Watch);
        let told = watcher.noises(watcher.now());
        kinds += told.iter().filter(|noise| noise.cause == Cause::TooManyKinds).count();
    }
    assert_eq!(kinds, 1);
    assert!(watcher.templates().count() <= 4096);
    assert!(watcher.encode().len() < 4 << 20);
}

#[test]
fn a_noise_comes_with_what_was_said_before() {
    let mut watcher = watcher();
    let now = Civil { year: 2026, month: 11, day: 5, hour: 0, minute: 0, second: 0 };
    assert!(now.time() > Some(watcher.now()));
    take(
        &mut watcher,
        END,
        7,
        "login: localhost [127.0.0.1] glad plain User logged in",
        Mode::Watch,
    );
    take(
        &mut watcher,
        END,
        8,
        "login: localhost [127.0.0.1] iris plain User logged in",
        Mode::Watch,
    );
    take(&mut watcher, END, 7, "DBERROR: x", Mode::Watch);
    watcher.stop_waiting();
    let told = watcher.noises(watcher.now());
    let context: Vec<_> =
        told[0].context.iter().map(|line| String::from_utf8_lossy(line)).collect();
    assert_eq!(context, ["login: localhost [127.0.0.1] glad plain User logged in"]);
}
