//! Archives that are cut off, damaged, or something else: what is said of them, and what of them
//! is given back.

use std::fs;
use std::path::Path;
use std::process::Command;

use segment::compress::{Compression, Writer};
use tempfile::TempDir;
use testkit::Rng;

use super::program::{Ran, cylinder};
use super::sample::{MESSAGES, check_maildir, sample, scratch, write};

/// Restores glad's newest snapshot as a maildir. Whatever comes of it, no byte may be wrong.
fn restored(scratch: &TempDir, archive: &Path, options: &[&str]) -> (Ran, usize) {
    let target = scratch.path().join("maildir");
    let _ = fs::remove_dir_all(&target);
    let to = format!("maildir:{}", target.display());
    let arguments = ["restore", "glad", "--to", &to, "--from"].map(std::ffi::OsStr::new);
    let options = options.iter().map(std::ffi::OsStr::new);
    let ran = cylinder(arguments.into_iter().chain([archive.as_os_str()]).chain(options));
    let count = check_maildir(&target);
    (ran, count)
}

fn listed(archive: &Path) -> Ran {
    cylinder([std::ffi::OsStr::new("list"), archive.as_os_str()])
}

/// glad's three segments, and where each ends.
fn whole() -> (Vec<u8>, [usize; 3]) {
    let [one, two, three] = &sample().glad;
    let ends = [one.len(), one.len() + two.len(), one.len() + two.len() + three.len()];
    (sample().glad.concat(), ends)
}

fn compressed(archive: &[u8], how: Compression) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = Writer::new(Vec::new(), how, 0);
    writer.write_all(archive).expect("a Vec takes all");
    writer.finish().expect("a Vec takes all")
}

/// Messages of INBOX, and the copies in the folder.
fn messages(snapshot: usize) -> usize {
    MESSAGES[snapshot - 1] + 2
}

#[test]
fn what_is_whole_comes_back() {
    let scratch = scratch();
    let (archive, _) = whole();
    for (name, bytes) in [
        ("plain", archive.clone()),
        ("gzip", compressed(&archive, Compression::Gzip)),
        ("zstd", compressed(&archive, Compression::Zstd)),
        ("zeros", [archive.as_slice(), &[0; 10_240]].concat()),
        ("twice", [archive.as_slice(), &archive].concat()),
    ] {
        let path = write(&scratch, name, &bytes);
        let (ran, count) = restored(&scratch, &path, &[]);
        assert_eq!((ran.code, count), (0, messages(3)), "{name}: {}", ran.stderr);
        listed(&path).expect(0);
    }
}

#[test]
fn an_archive_that_was_cut_off_says_where_and_keeps_what_is_whole() {
    let scratch = scratch();
    let (archive, ends) = whole();
    let mut cuts: Vec<usize> = (0..24).map(|n| archive.len() * n / 24 + n).collect();
    for end in ends {
        cuts.extend([end - 1, end - 512, end - 513, end - 1024, end - 1500]);
        cuts.extend([end + 1, end + 511, end + 512, end + 700]);
    }
    for cut in cuts.into_iter().filter(|cut| (1..archive.len()).contains(cut)) {
        let path = write(&scratch, "cut.tar", &archive[..cut]);
        let whole_snapshots = ends.iter().filter(|end| **end <= cut).count();
        if ends.contains(&cut) {
            continue;
        }
        let ran = listed(&path).expect(1);
        let shown = ran.text();
        assert!(ran.error().starts_with(&format!("cannot use {}: ", path.display())), "{cut}");
        assert!(ran.error().contains("byte"), "{cut}: {}", ran.error());
        assert!(ran.hints("--salvage"), "{cut}: {}", ran.stderr);
        assert!(shown.contains(&format!("{whole_snapshots} snapshot")), "{cut}: {shown}");

        let (ran, count) = restored(&scratch, &path, &[]);
        assert_eq!((ran.code, count), (1, 0), "{cut}: {}", ran.stderr);
        assert!(ran.error().contains("byte"), "{cut}");

        let (ran, count) = restored(&scratch, &path, &["--salvage"]);
        let expected = if whole_snapshots == 0 { (1, 0) } else { (3, messages(whole_snapshots)) };
        assert_eq!((ran.code, count), expected, "{cut}: {}", ran.stderr);
    }
}

#[test]
fn a_compressed_archive_that_was_cut_off_gives_back_what_is_whole() {
    let scratch = scratch();
    for how in [Compression::Gzip, Compression::Zstd] {
        // Each snapshot by itself, as `snapshot --compress` appends them.
        let parts = sample().glad.each_ref().map(|segment| compressed(segment, how));
        let archive = parts.concat();
        let third = parts[0].len() + parts[1].len();
        let cuts = [third + 40, third + (archive.len() - third) / 2, archive.len() - 30];
        for cut in cuts {
            let path = write(&scratch, "cut", &archive[..cut]);
            let (ran, _) = restored(&scratch, &path, &[]);
            assert!(matches!(ran.code, 0 | 1), "{how:?} {cut}: {}", ran.stderr);
            if ran.code == 1 {
                assert!(ran.error().contains("byte"), "{how:?} {cut}");
            }
            let (ran, count) = restored(&scratch, &path, &["--salvage"]);
            assert!(matches!(ran.code, 0 | 3), "{how:?} {cut}: {}", ran.stderr);
            assert!(count == messages(2) || count == messages(3), "{how:?} {cut}: {count}");
        }
    }
}

#[test]
fn a_flipped_bit_never_gives_a_wrong_byte() {
    let scratch = scratch();
    let (archive, ends) = whole();
    let mut rng = Rng::new(2009);
    let mut places: Vec<usize> = (0..60).map(|_| rng.index(archive.len())).collect();
    // The ends, and the manifests before them.
    places
        .extend(ends.iter().flat_map(|end| [end - 1, end - 300, end - 512, end - 700, end - 1500]));
    let mut told = 0;
    for place in places {
        let mut damaged = archive.clone();
        damaged[place] ^= 1 << (place % 8);
        let path = write(&scratch, "flipped.tar", &damaged);
        let ran = listed(&path);
        assert!(matches!(ran.code, 0 | 1), "{place}: {}", ran.stderr);
        let (ran, count) = restored(&scratch, &path, &[]);
        match ran.code {
            0 => assert_eq!(count, messages(3), "{place}: {}", ran.stderr),
            1 => assert!(!ran.error().is_empty()),
            3 => assert!(count < messages(3) && ran.stderr.contains("archive-damaged"), "{place}"),
            other => panic!("{place}: exit {other}: {}", ran.stderr),
        }
        told += usize::from(ran.code != 0);
        let (ran, count) = restored(&scratch, &path, &["--salvage"]);
        assert!(matches!(ran.code, 0 | 1 | 3), "{place}: {}", ran.stderr);
        assert!(ran.code != 0 || count == messages(3), "{place}");
    }
    assert!(told > 40, "most flips hit something that is looked at: {told}");
}

#[test]
fn a_flipped_bit_in_a_compressed_archive_never_gives_a_wrong_byte() {
    let scratch = scratch();
    let mut rng = Rng::new(2010);
    for how in [Compression::Gzip, Compression::Zstd] {
        let archive = compressed(&whole().0, how);
        let mut places: Vec<usize> = (0..25).map(|_| rng.index(archive.len())).collect();
        places.extend((1..20).map(|n| archive.len() - n));
        for place in places {
            let mut damaged = archive.clone();
            damaged[place] ^= 1 << (place % 8);
            let path = write(&scratch, "flipped", &damaged);
            for options in [[].as_slice(), &["--salvage"]] {
                let (ran, count) = restored(&scratch, &path, options);
                assert!(matches!(ran.code, 0 | 1 | 3), "{how:?} {place}: {}", ran.stderr);
                assert!(ran.code != 0 || count == messages(3), "{how:?} {place}");
            }
        }
    }
}

#[test]
fn one_damaged_manifest_does_not_hide_the_other_snapshots() {
    let scratch = scratch();
    let (mut archive, ends) = whole();
    // Its last bytes, before the header and the block of the end.
    archive[ends[0] - 1024 - 512] ^= 1;
    archive.extend_from_slice(&sample().iris);
    let path = write(&scratch, "damaged.tar", &archive);
    let ran = listed(&path).expect(1);
    assert!(ran.error().contains("manifest") && ran.error().contains("byte"), "{}", ran.error());
    assert!(ran.text().contains("iris  1"), "{}", ran.text());
    assert!(ran.text().contains("glad  3"), "{}", ran.text());
}

#[test]
fn what_is_no_archive_is_refused_by_name() {
    let scratch = scratch();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).expect("a directory");
    fs::write(tree.join("file"), b"text").expect("a file");
    let tar = scratch.path().join("gnu.tar");
    let made = Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg("file").status();
    assert!(made.expect("tar runs").success());
    let mut rng = Rng::new(1);
    let random: Vec<u8> = (0..100_000).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
    let foreign = [
        tar.clone(),
        write(&scratch, "random", &random),
        write(&scratch, "text", "just some text\n".repeat(200).as_bytes()),
        write(&scratch, "short", b"x"),
        write(&scratch, "empty", b""),
        write(&scratch, "zeros", &[0; 4096]),
        write(&scratch, "gzip", &compressed(b"something else", Compression::Gzip)),
        write(&scratch, "zstd", &compressed(&random, Compression::Zstd)),
        write(&scratch, "tar.gz", &compressed(&fs::read(&tar).expect("it"), Compression::Gzip)),
        write(&scratch, "gzip-header", &[0x1f, 0x8b, 8, 0]),
        write(&scratch, "zstd-magic", &[0x28, 0xb5, 0x2f, 0xfd]),
        tree,
        scratch.path().join("does not exist"),
    ];
    for path in &foreign {
        let shown = path.display().to_string();
        let ran = listed(path).expect(1);
        assert!(ran.error().contains(&shown), "{}", ran.error());
        assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
        let (ran, _) = restored(&scratch, path, &[]);
        assert!(ran.expect(1).error().contains(&shown));
        let (ran, count) = restored(&scratch, path, &["--salvage"]);
        assert_eq!((ran.code, count), (1, 0), "{shown}: {}", ran.stderr);
        let arguments = ["snapshot", "glad", "-C", "/nonexistent", "--since"];
        let arguments = arguments.map(std::ffi::OsStr::new).into_iter();
        let ran = cylinder(arguments.chain([path.as_os_str()])).expect(1);
        assert!(ran.error().contains(&shown), "{}", ran.error());
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn a_foreign_tar_before_or_behind_is_named_and_salvaged_around() {
    let scratch = scratch();
    let (archive, _) = whole();
    let file = write(&scratch, "file", b"text");
    let tar = scratch.path().join("gnu.tar");
    let mut command = Command::new("tar");
    command.arg("-C").arg(scratch.path()).arg("-cf").arg(&tar).arg("file");
    assert!(command.status().expect("tar runs").success());
    fs::remove_file(file).expect("removed");
    let tar = fs::read(tar).expect("a tar");
    for (name, bytes) in [
        ("before", [tar.as_slice(), &archive].concat()),
        ("behind", [archive.as_slice(), &tar].concat()),
        (
            "between",
            [sample().glad[0].as_slice(), &tar, &archive[sample().glad[0].len()..]].concat(),
        ),
    ] {
        let path = write(&scratch, name, &bytes);
        let ran = listed(&path).expect(1);
        assert!(ran.error().contains("file"), "{name}: {}", ran.error());
        assert!(ran.text().contains("3 snapshots of 1 account"), "{name}: {}", ran.text());
        let (ran, count) = restored(&scratch, &path, &["--salvage"]);
        assert_eq!((ran.code, count), (3, messages(3)), "{name}: {}", ran.stderr);
    }
}
