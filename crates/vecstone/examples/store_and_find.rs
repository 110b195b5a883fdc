//! Stores texts by their vectors and finds the nearest ones: `cargo run -p vecstone --example store_and_find`.

use std::error::Error;
use vecstone::{Metric, SearchOptions, VectorStore, WriteBatch};

const TEXTS: [(&str, &str); 5] = [
    ("wal", "a log is written before the data"),
    ("fsync", "a sync returns when the disk has the data"),
    ("cosine", "the angle between two vectors"),
    ("euclid", "the distance between two vectors"),
    ("cat", "the cat sat on the mat"),
];

/// How often each letter comes: stands for a real model here.
fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; 26];
    for letter in text.bytes().filter(u8::is_ascii_lowercase) {
        vector[usize::from(letter - b'a')] += 1.0;
    }
    vector
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = VectorStore::create(dir.path().join("texts"), 26, Metric::Cosine)?;

    let vectors = TEXTS.map(|(_, text)| embed(text));
    let documents = TEXTS.map(|(_, text)| format!("{{\"text\": \"{text}\"}}"));
    let mut batch = WriteBatch::new();
    for (((id, _), vector), document) in TEXTS.iter().zip(&vectors).zip(&documents) {
        batch.put_with_document(*id, vector, document);
    }
    store.write(&batch)?; // all five or none
    store.flush()?; // from here on a power cut takes nothing of this

    let query = embed("what is a vector's angle");
    let hits = store.snapshot()?.search_with(&query, 3, &SearchOptions::new().with_documents())?;
    for hit in &hits {
        println!("{:.3}  {}  {}", hit.distance, hit.id, hit.document.as_deref().unwrap_or("no document"));
    }
    assert_eq!(hits.len(), 3);

    store.close()?;
    Ok(())
}
