//! `vecstone search`: the k nearest ids.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use vecstone::{Error, Filter, Hits, Id, Metric, Neighbor, SearchOptions, Snapshot, VectorStore, WhyExact};

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
    if let Some(radius) = args.radius.filter(|radius| *radius < 0.0 && store.metric() != Metric::Ip) {
        let metric = store.metric();
        let what = format!(
            "--radius is {radius}, and no {metric} distance is below 0; leave it out to search without one"
        );
        return Err(Failure::error(what));
    }
    if let Some(id) = &args.query.id {
        let (hits, itself) = near_id(&store, args, &options, id)?;
        let others = hits.iter().filter(|hit| Some(&hit.id) != itself.as_ref());
        print(args, None, others.take(args.k), output)?;
        explain(args, None, &hits, output)?;
    } else if let Some(file) = &args.query.query {
        search_file(&store, args, &options, file, output)?;
    } else if let Some(text) = &args.query.vector {
        let hits = store.search_with(&parse_vector(text)?, args.k, &options)?;
        print(args, None, hits.iter(), output)?;
        explain(args, None, &hits, output)?;
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
    if let Some(target) = args.recall {
        options = options.recall_target(target);
    }
    Ok(options)
}

/// What is near to an id, and the id if it is to be left out.
fn near_id(
    store: &Snapshot,
    args: &Search,
    options: &SearchOptions,
    id: &String,
) -> Result<(Hits, Option<Id>)> {
    let ids = parse_all(store.kind(), [id])?;
    let Some(vector) = store.get_many(&ids)?.pop().flatten() else {
        let what = format!("id {} is not stored; nothing to search with", shown(id));
        return Err(Failure::not_found(format!("{}: {what}", args.store.display())));
    };
    let k = if args.with_self { args.k } else { args.k.saturating_add(1) };
    Ok((store.search_with(&vector, k, options)?, ids.into_iter().next().filter(|_| !args.with_self)))
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
        for hits in found {
            let query = several.then_some(number);
            print(args, query, hits.iter(), output)?;
            explain(args, query, &hits, output)?;
            number += 1;
        }
    }
    Ok(())
}

/// `first`: the row of the first of the queries.
pub(crate) fn name_row(path: &Path, first: u64, error: Error) -> Failure {
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

/// With `--explain`: how an answer was found.
fn explain(args: &Search, query: Option<u64>, hits: &Hits, output: &mut Output) -> Result<()> {
    let explain = hits.explain();
    if !args.explain {
        return Ok(());
    }
    if !args.json {
        let exact = if hits.is_exact() { "yes" } else { "no" };
        return output.line(format!("exact  {exact}\n{explain}"));
    }
    let seconds = explain.stages().map(|(stage, time)| (stage.to_owned(), json!(time.as_secs_f64())));
    let told = json!({
        "exact": hits.is_exact(),
        "rows_read": hits.rows_read(),
        "path": explain.path.name(),
        "why_exact": explain.why_exact.map(WhyExact::name),
        "queries": explain.queries,
        "partitions_visited": explain.partitions_visited,
        "partitions_skipped": explain.partitions_skipped,
        "codes_scanned": explain.codes_scanned,
        "rows_scanned": explain.rows_scanned,
        "rows_refined": explain.rows_refined,
        "seconds": Value::Object(Map::from_iter(seconds)),
    });
    output.json(&match query {
        Some(query) => json!({ "query": query, "explain": told }),
        None => json!({ "explain": told }),
    })
}

fn print<'a>(
    args: &Search,
    query: Option<u64>,
    neighbors: impl Iterator<Item = &'a Neighbor>,
    output: &mut Output,
) -> Result<()> {
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
