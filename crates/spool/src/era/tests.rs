//! The table of the module's documentation, row by row.

use LockEra::{V23, V24, V32, V34, V36, V312};
use MboxListEra::{ById, Dlist, Text};

use super::*;

fn evidence(list: MboxListEra, newest_index: Option<u32>) -> Evidence {
    Evidence { list, newest_index, has_createdmodseq: false, lock_dir: true }
}

#[track_caller]
fn check(list: MboxListEra, versions: &[Option<u32>], expected: &[LockEra], shown: &str) {
    for version in versions {
        let era = Era::detect(evidence(list, *version));
        assert_eq!(era.candidates(), expected, "{list:?} {version:?}");
        assert_eq!(era.to_string(), shown);
    }
}

#[test]
fn every_row_of_the_table_holds() {
    check(Text, &[None, Some(6), Some(9), Some(10)], &[V23, V24], "2.3 to 3.0");
    check(Text, &[Some(12)], &[V24], "2.4 to 3.0");
    check(Dlist, &[None, Some(9), Some(12), Some(13)], &[V24, V32, V34], "2.4 to 3.4");
    check(Text, &[Some(13)], &[V24, V32, V34], "2.4 to 3.4");
    for list in [Text, Dlist] {
        check(list, &[Some(14), Some(15), Some(16)], &[V32, V34], "3.2 to 3.4");
        check(list, &[Some(17)], &[V34], "3.4");
    }
    let any = [None, Some(6), Some(10), Some(13), Some(17), Some(19)];
    check(ById, &any, &[V36, V312], "3.6 or newer");
    check(ById, &[Some(20)], &[V312], "3.12 or newer");
}

#[test]
fn without_lock_files_old_indexes_mean_2_3() {
    let era = Era::detect(Evidence { lock_dir: false, ..evidence(Text, Some(10)) });
    assert_eq!(era.candidates(), [V23]);
    assert_eq!(era.to_string(), "2.3");
}

#[test]
fn a_createdmodseq_excludes_what_came_before_3_2() {
    let has_createdmodseq = true;
    let era = Era::detect(Evidence { has_createdmodseq, ..evidence(Dlist, Some(13)) });
    assert_eq!(era.candidates(), [V32, V34]);
}

#[test]
fn releases_are_known_by_name() {
    let releases = [
        ("2.2.12", V23, NameEra::V2),
        ("2.3", V23, NameEra::V2),
        ("2.4.22", V24, NameEra::V2),
        ("2.5", V24, NameEra::V2),
        ("3.0", V24, NameEra::V3),
        ("3.2.1", V32, NameEra::V3),
        ("3.4", V34, NameEra::V3),
        ("3.6.1", V36, NameEra::V3),
        ("3.8", V36, NameEra::V3),
        ("3.10", V36, NameEra::V3),
        ("3.12", V312, NameEra::V3),
        ("3.13.7", V312, NameEra::V3),
    ];
    for (name, era, names) in releases {
        assert_eq!(Era::of_release(name), Some((era, names)), "{name}");
    }
    for name in ["", "3", "4.0", "2.1", "3.x", "3.6.", "3.6.x", "-3.6", "three.six"] {
        assert_eq!(Era::of_release(name), None, "{name}");
    }
}

#[test]
fn the_least_of_the_candidates_decides_what_is_promised() {
    let promises = |list, version| {
        let era = Era::detect(evidence(list, version));
        let names = era.user_lock_freezes_names();
        let content = era.user_lock_freezes_content(&Userid::from("glad"));
        (era.has_record_locks_only(), names, content)
    };
    assert_eq!(promises(Text, Some(10)), (true, false, false));
    assert_eq!(promises(Text, Some(12)), (false, false, false));
    assert_eq!(promises(Dlist, Some(13)), (false, false, false));
    assert_eq!(promises(Dlist, Some(16)), (false, true, false));
    assert_eq!(promises(Dlist, Some(17)), (false, true, true));
    assert_eq!(promises(ById, None), (false, true, true));
    let shared = |era: Era| era.user_lock_freezes_content(&Userid::shared());
    assert!(!shared(Era::only(V36)) && !shared(Era::detect(evidence(ById, None))));
    assert!(shared(Era::only(V312)));
    assert!(Era::only(V34).is_within(&Era::detect(evidence(Dlist, Some(13)))));
    assert!(!Era::detect(evidence(Dlist, Some(13))).is_within(&Era::only(V34)));
}
