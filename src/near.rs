//! Which of the names that exist was probably meant.
//!
//! Floor 0. A misspelled volume, key or setting is an error that names its neighbours.

/// Longest name that is compared, in bytes; the work grows with the square of it.
const LEN_MAX: usize = 128;

/// The names of `known` that are near to `wanted`, nearest first, at most three of them.
///
/// Near is: the same but for case, one the beginning of the other (from three letters on), or at
/// most a third of the longer one's letters added, lost, changed or swapped.
#[must_use]
pub fn near_names<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|name| Some((distance_if_near(wanted, name)?, name)))
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// The sentence part that names neighbours: `` did you mean `a` or `b`? ``; none without any.
#[must_use]
pub fn did_you_mean(near: &[&str]) -> Option<String> {
    if near.is_empty() {
        return None;
    }
    let quoted: Vec<_> =
        near.iter().map(|name| format!("`{}`", crate::entry::escape(name.as_bytes()))).collect();
    Some(format!("did you mean {}?", quoted.join(" or ")))
}

fn distance_if_near(wanted: &str, name: &str) -> Option<usize> {
    if wanted.len() > LEN_MAX || name.len() > LEN_MAX {
        return None;
    }
    let (a, b) = (wanted.to_lowercase(), name.to_lowercase());
    if a == b {
        return Some(0);
    }
    let shorter = a.chars().count().min(b.chars().count());
    if shorter >= 3 && (a.starts_with(&b) || b.starts_with(&a)) {
        return Some(1);
    }
    let distance = edit_distance(&a, &b);
    let longer = a.chars().count().max(b.chars().count());
    (distance <= longer / 3).then_some(distance)
}

/// How many letters have to be added, removed, changed or swapped with their neighbour to make `b`
/// of `a` (the "optimal string alignment" form of the Damerau-Levenshtein distance).
#[must_use]
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut two_ago = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let changed = previous[j] + usize::from(a[i] != b[j]);
            row[j + 1] = changed.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(two_ago[j - 1] + 1);
            }
        }
        two_ago = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits_and_swaps() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("abc", "acb", 1),
            ("my-data", "mydata", 1),
            ("kitten", "sitting", 3),
            ("grün", "grun", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn only_neighbours_are_named_and_the_nearest_first() {
        let known = ["my-data", "my-data-2", "postgres", "m", "MY-DATA"];
        assert_eq!(near_names("my-dta", known), ["MY-DATA", "my-data", "my-data-2"]);
        assert_eq!(near_names("postgers", known), ["postgres"]);
        assert_eq!(near_names("zzz", known), [""; 0]);
        assert_eq!(near_names("", known), [""; 0]);
    }

    #[test]
    fn a_very_long_name_costs_nothing() {
        let long = "x".repeat(1 << 20);
        assert_eq!(near_names(&long, ["x", "xxx"]), [""; 0]);
    }

    #[test]
    fn neighbours_are_escaped_before_they_are_shown() {
        assert_eq!(did_you_mean(&["a\x1b"]).as_deref(), Some("did you mean `a\\u{1b}`?"));
        assert_eq!(did_you_mean(&[]), None);
    }
}
