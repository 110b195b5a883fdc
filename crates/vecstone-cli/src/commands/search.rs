//! `vecstone search`: the k nearest ids.

use std::path::Path;

use serde::Serialize;
use vecstone::{Error, Neighbor, VectorStore};

use crate::args::Search;
use crate::failure::{Failure, Result};
use crate::npy::{self, Shape};
use crate::output::{Output, shown};
use crate::rows::Rows;

/// Bytes of queries held at once.
const QUERY_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct Hit<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<u64>,
    id: &'a str,
    distance: f32,
}

pub(crate) fn run(args: &Search, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    if let Some(id) = &args.query.id {
        let neighbors = near_id(&store, args, id)?;
        print(args, None, &neighbors, output)?;
    } else if let Some(file) = &args.query.query {
        search_file(&store, args, file, output)?;
    } else if let Some(text) = &args.query.vector {
        print(args, None, &store.search(&parse_vector(text)?, args.k)?, output)?;
    }
    Ok(0)
}

fn near_id(store: &VectorStore, args: &Search, id: &str) -> Result<Vec<Neighbor>> {
    let Some(vector) = store.get(id)? else {
        let what = format!("id {} is not stored; nothing to search with", shown(id));
        return Err(Failure::not_found(format!("{}: {what}", args.store.display())));
    };
    if args.with_self {
        return Ok(store.search(&vector, args.k)?);
    }
    let mut neighbors = store.search(&vector, args.k.saturating_add(1))?;
    neighbors.retain(|neighbor| neighbor.id != id);
    neighbors.truncate(args.k);
    Ok(neighbors)
}

fn search_file(store: &VectorStore, args: &Search, path: &Path, output: &mut Output) -> Result<()> {
    let (file, layout) = npy::open(path, Shape::MatrixOrVector)?;
    if layout.dim != store.dim() {
        let (expected, found) = (store.dim(), layout.dim);
        return Err(Failure::file(path, Error::DimensionMismatch { expected, found }));
    }
    let several = layout.rows > 1;
    let at_once = (QUERY_BYTES / (layout.dim * 4)).max(1);
    let mut rows = Rows::new(path, file, layout);
    let mut queries = Vec::new();
    let mut number = 0;
    while rows.left() > 0 {
        let count = usize::try_from(rows.left()).map_or(at_once, |left| left.min(at_once));
        rows.read(count, &mut queries)?;
        for query in queries.chunks_exact(layout.dim) {
            let neighbors = store.search(query, args.k).map_err(|e| name_row(path, number, e))?;
            print(args, several.then_some(number), &neighbors, output)?;
            number += 1;
        }
    }
    Ok(())
}

fn name_row(path: &Path, row: u64, error: Error) -> Failure {
    match error {
        Error::NonFinite { component, .. } => {
            Failure::file(path, format!("row {row}, column {component} is not a finite number; correct it"))
        }
        error => error.into(),
    }
}

fn parse_vector(text: &str) -> Result<Vec<f32>> {
    let number = |(at, part): (usize, &str)| {
        part.trim().parse().map_err(|_| {
            Failure::error(format!("--vector: number {} is {part:?}; write it as in \"0.1,0.2,0.3\"", at + 1))
        })
    };
    text.split(',').enumerate().map(number).collect()
}

fn print(args: &Search, query: Option<u64>, neighbors: &[Neighbor], output: &mut Output) -> Result<()> {
    if let Some(query) = query.filter(|_| !args.json) {
        output.line(format!("query {query}:"))?;
    }
    for Neighbor { id, distance, .. } in neighbors {
        if args.json {
            output.json(&Hit { query, id, distance: *distance })?;
        } else {
            output.line(format!("{distance:.6}  {}", shown(id)))?;
        }
    }
    Ok(())
}
