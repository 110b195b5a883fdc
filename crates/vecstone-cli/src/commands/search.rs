//! `vecstone search`: the k nearest ids.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use vecstone::{Error, Filter, Neighbor, SearchOptions, Snapshot, VectorStore};

use crate::args::Search;
use crate::failure::{Failure, Result};
use crate::ids::parse_all;
use crate::npy::{self, Shape};
use crate::output::{Output, as_json, shown, shown_document};
use crate::rows::Rows;

/// Bytes of queries held at once, and how many there may be: the results of all of them are held, too.
const QUERY_BYTES: usize = 1 << 20;
const QUERIES: usize = 256;

#[derive(Serialize)]
struct Hit<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<u64>,
    id: &'a str,
    distance: f32,
    /// With `--documents`; null if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Option<Box<RawValue>>>,
}

pub(crate) fn run(args: &Search, output: &mut Output) -> Result<u8> {
    let options = options(args)?;
    let store = VectorStore::open_read_only(&args.store)?.snapshot()?;
    if let Some(id) = &args.query.id {
        let neighbors = near_id(&store, args, &options, id)?;
        print(args, None, &neighbors, output)?;
    } else if let Some(file) = &args.query.query {
        search_file(&store, args, &options, file, output)?;
    } else if let Some(text) = &args.query.vector {
        print(args, None, store.search_with(&parse_vector(text)?, args.k, &options)?.as_slice(), output)?;
    }
    Ok(0)
}

fn options(args: &Search) -> Result<SearchOptions> {
    let mut options = SearchOptions::new();
    if args.documents {
        options = options.with_documents();
    }
    if let Some(filter) = &args.filter {
        options = options.filter(Filter::parse(filter)?);
    }
    if let Some(radius) = args.radius {
        options = options.radius(radius);
    }
    Ok(options)
}

fn near_id(store: &Snapshot, args: &Search, options: &SearchOptions, id: &String) -> Result<Vec<Neighbor>> {
    let ids = parse_all(store.kind(), [id])?;
    let Some(vector) = store.get_many(&ids)?.pop().flatten() else {
        let what = format!("id {} is not stored; nothing to search with", shown(id));
        return Err(Failure::not_found(format!("{}: {what}", args.store.display())));
    };
    if args.with_self {
        return Ok(store.search_with(&vector, args.k, options)?.into_vec());
    }
    let mut neighbors = store.search_with(&vector, args.k.saturating_add(1), options)?.into_vec();
    neighbors.retain(|neighbor| !ids.contains(&neighbor.id));
    neighbors.truncate(args.k);
    Ok(neighbors)
}

fn search_file(
    store: &Snapshot,
    args: &Search,
    options: &SearchOptions,
    path: &Path,
    output: &mut Output,
) -> Result<()> {
    let (file, layout) = npy::open(path, Shape::MatrixOrVector)?;
    if store.dim() != layout.dim {
        return Err(Failure::file(path, Error::dimension_mismatch(store.dim(), layout.dim)));
    }
    let several = layout.rows > 1;
    let at_once = (QUERY_BYTES / (layout.dim * 4)).clamp(1, QUERIES);
    let mut rows = Rows::new(path, file, layout);
    let mut queries = Vec::new();
    let mut number = 0;
    while rows.left() > 0 {
        let count = usize::try_from(rows.left()).map_or(at_once, |left| left.min(at_once));
        rows.read(count, &mut queries)?;
        let found = store.search_many(&queries, args.k, options).map_err(|e| name_row(path, number, e))?;
        for neighbors in found {
            print(args, several.then_some(number), neighbors.as_slice(), output)?;
            number += 1;
        }
    }
    Ok(())
}

/// `first`: the row of the first of the queries.
fn name_row(path: &Path, first: u64, error: Error) -> Failure {
    match error {
        Error::NonFinite { row, component, .. } => {
            let row = first + row as u64;
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
    for Neighbor { id, distance, document, .. } in neighbors {
        let (id, document) = (id.to_string(), document.as_deref());
        if args.json {
            let document = document.map(as_json).transpose()?;
            output.json(&Hit {
                query,
                id: &id,
                distance: *distance,
                document: args.documents.then_some(document),
            })?;
            continue;
        }
        output.text(format!("{distance:.6}  {}", shown(&id)))?;
        if args.documents {
            output.text(format!("\t{}", shown_document(document.unwrap_or("null"))))?;
        }
        output.text("\n")?;
    }
    Ok(())
}
