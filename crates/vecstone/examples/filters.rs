//! Documents, filters over them, and changes of what they select: `cargo run -p vecstone --example filters`.

use std::error::Error;
use vecstone::{Filter, Id, Metric, SearchOptions, VectorStore};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = VectorStore::create(dir.path().join("books"), 2, Metric::L2)?;
    for (id, vector, document) in [
        ("a", [1.0, 0.0], r#"{"title": "Stones", "year": 1998, "tags": ["rock"]}"#),
        ("b", [2.0, 0.0], r#"{"title": "Logs", "year": 2011, "tags": ["wood", "paper"]}"#),
        ("c", [3.0, 0.0], r#"{"title": "Trees", "year": 2020, "tags": ["wood"]}"#),
        ("d", [4.0, 0.0], r#"{"title": "Drafts", "year": 2024}"#),
    ] {
        store.put_with_document(id, &vector, document)?;
    }

    // The nearest of those that match, not those of the nearest that match.
    let wooden = Filter::parse(r#"{"year": {"$gte": 2000}, "tags": {"$contains": "wood"}}"#)?;
    let snapshot = store.snapshot()?;
    let hits = snapshot.search_with(&[0.0, 0.0], 1, &SearchOptions::new().filter(wooden.clone()))?;
    assert_eq!(hits[0].id, "b");
    assert_eq!(snapshot.ids_where(&wooden)?, [Id::from("b"), Id::from("c")]);

    // Within a distance, among some ids: squared, since the metric is l2.
    let some = Filter::ids(["a", "b", "c"].map(Id::from));
    let near = snapshot.search_with(&[0.0, 0.0], 10, &SearchOptions::new().filter(some).radius(4.0))?;
    println!("{:?}", near.iter().map(|hit| (hit.id.to_string(), hit.distance)).collect::<Vec<_>>());
    assert_eq!(near.len(), 2);

    // The document alone changes; the vector stays.
    store.update_document("d", r#"{"title": null, "tags": ["paper"]}"#)?;
    assert_eq!(store.snapshot()?.get_document("d")?.as_deref(), Some(r#"{"year":2024,"tags":["paper"]}"#));

    // One batch, with all that match at its place in the order of writing.
    assert_eq!(store.delete_where(&Filter::parse(r#"{"year": {"$lt": 2012}}"#)?)?, 2);
    assert_eq!(store.len()?, 2);

    store.close()?;
    Ok(())
}
