//! Names that somebody may have meant.

use model::Userid;

/// How many are suggested.
const MAX_SUGGESTIONS: usize = 3;

/// The accounts whose names differ least from this one, the nearest first.
pub(crate) fn names<'a>(
    wanted: &Userid,
    accounts: impl Iterator<Item = &'a Userid>,
) -> Vec<Userid> {
    let wanted = wanted.as_bytes().to_ascii_lowercase();
    let tolerated = 1 + wanted.len() / 4;
    let mut near: Vec<(usize, &Userid)> = accounts
        .filter(|name| name.as_bytes().len().abs_diff(wanted.len()) <= tolerated)
        .map(|name| (distance(&wanted, &name.as_bytes().to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= tolerated)
        .collect();
    near.sort();
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name.clone()).collect()
}

/// How many bytes must be inserted, removed or replaced to make one of the other (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte_a) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, byte_b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(byte_a != byte_b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in
            [("", "", 0), ("glad", "", 4), ("glad", "gald", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), edits, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), edits, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_names_come_first_and_strangers_not_at_all() {
        let accounts = ["glad", "glade", "iris", "Gladd", "gladstone", "lad"].map(Userid::from);
        let near = names(&Userid::from("gladd"), accounts.iter());
        assert_eq!(near, ["Gladd", "glad", "glade"].map(Userid::from));
        assert_eq!(names(&Userid::from("zebediah"), accounts.iter()), []);
    }
}
