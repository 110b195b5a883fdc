//! What each command takes.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Parser, Subcommand};
use vecstone::{CompactOptions, IdKind, Metric};

/// An embedded vector store: ids and float32 vectors in plain files, safe against crashes.
#[derive(Debug, Parser)]
#[command(
    name = "vecstone",
    bin_name = "vecstone",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 found or done, 1 not found, damaged or not repaired whole, 2 error.\n\n\
                        Example: vecstone import movies movies.npy --ids movies.txt"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an empty store.
    #[command(after_help = "Example: vecstone create movies --dim 768 --metric cosine")]
    Create(Create),
    /// Store the rows of a file, batch by batch; each batch is durable once it is acknowledged.
    #[command(
        after_help = "Example: vecstone import movies movies.npy --ids movies.txt --documents movies.jsonl\n         \
                            vecstone import movies movies.parquet --vector-column embedding --document-columns title,year\n\
                            After a crash or a full disk: the same line with --resume."
    )]
    Import(Import),
    /// Print the vectors, or the documents, of ids.
    #[command(after_help = "Example: vecstone get movies tt0111161 tt0068646 --json\n         \
                            vecstone get movies tt0111161 --document")]
    Get(Get),
    /// Print the k nearest ids, nearest first.
    #[command(after_help = "Example: vecstone search movies --id tt0111161 -k 5 --documents\n         \
                            vecstone search movies --query queries.npy --json\n         \
                            vecstone search movies --id tt0111161 --filter '{\"year\": {\"$gte\": 2020}}'")]
    Search(Search),
    /// Delete ids. Exit code 1 if one of them was not stored; the others are deleted all the same.
    #[command(after_help = "Example: vecstone delete movies tt0111161\n         \
                            vecstone delete movies --where '{\"lang\": \"en\"}'")]
    Delete(Delete),
    /// Print counts, sizes and memory.
    #[command(after_help = "Example: vecstone info movies --json")]
    Info(Info),
    /// Check every byte. Exit code 1 if something is damaged.
    #[command(after_help = "Example: vecstone verify movies")]
    Verify(Verify),
    /// Give the space of deleted and replaced rows back. Readers go on meanwhile.
    #[command(after_help = "Example: vecstone compact movies")]
    Compact(Compact),
    /// Build now what makes the store faster; the background of a writer does the same later.
    #[command(after_help = "Example: vecstone optimize movies")]
    Optimize(Optimize),
    /// Measure with your own queries how many rows an approximate search has to look at.
    #[command(after_help = "Example: vecstone tune movies questions.npy")]
    Tune(Tune),
    /// Copy the store as it is now to a new directory, also while another process writes to it.
    #[command(after_help = "Example: vecstone backup movies backups/movies-monday")]
    Backup(Backup),
    /// Save what checks out of a damaged store to a new one. Exit code 1 if something is lost, or may be old.
    #[command(after_help = "Example: vecstone repair movies movies-repaired\n\
                            The damaged store stays as it is. If it does not finish, repeat it.")]
    Repair(Repair),
    /// Write the live rows in write order: to a .npy file and a text file of ids, or to a table with documents.
    #[command(after_help = "Example: vecstone export movies movies.npy --ids movies.txt\n         \
                            vecstone export movies movies.parquet")]
    Export(Export),
    /// Make a store from OLD.dat and OLD.idx of the original Storage V2.
    #[command(after_help = "Example: vecstone migrate backup/vectors movies")]
    Migrate(Migrate),
    /// Import real embeddings, kill the writer in the middle, recover, search, verify.
    #[command(after_help = "Example: vecstone demo\n         vecstone demo /tmp/vecstone-demo\n         \
                            vecstone demo --vectors movies.npy --ids movies.txt")]
    Demo(Demo),
}

/// A value that the library knows by name, in capitals or not, with what help says of each. The library says what is wrong.
#[derive(Debug, Clone)]
struct Named<T>(&'static [(&'static str, &'static str)], PhantomData<T>);

fn named<T>(names: &'static [(&'static str, &'static str)]) -> Named<T> {
    Named(names, PhantomData)
}

impl<T> TypedValueParser for Named<T>
where
    T: FromStr<Err = vecstone::Error> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        StringValueParser::new().try_map(|name| name.parse::<T>()).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|&(name, help)| PossibleValue::new(name).help(help))))
    }
}

const METRICS: &[(&str, &str)] = &[
    ("l2", "Sum of the squared differences"),
    ("ip", "One minus the inner product"),
    ("cosine", "One minus the cosine of the angle"),
];

const ID_KINDS: &[(&str, &str)] = &[
    ("string", "UTF-8 text of up to 65,536 bytes"),
    ("u64", "A whole number of 64 bits, in decimal"),
    ("uuid", "A UUID, in hexadecimal"),
];

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Components of each vector. vecstone import needs no create: it takes this from its file.
    #[arg(long, value_name = "N")]
    pub(crate) dim: u32,
    /// How distance is measured.
    #[arg(long, value_parser = named::<Metric>(METRICS), default_value = "cosine")]
    pub(crate) metric: Metric,
    /// From how many rows without codes a writer makes codes in the background, which make search faster; 0 never
    /// does [default: 20000]
    #[arg(long, value_name = "N")]
    pub(crate) auto_optimize_rows: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Directory of the store; made if it is not there.
    pub(crate) store: PathBuf,
    /// A .npy file of shape (rows, dim): float32, or float16 or float64 with --convert. Or Parquet, Arrow IPC
    /// (Feather) or JSON lines, whose columns have ids, vectors and documents; told apart by content.
    pub(crate) file: PathBuf,
    /// Not .npy: the column of the ids: text, whole numbers or UUIDs [default: id]
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,
    /// Not .npy: the column of the vectors: lists of numbers, stored as float32 [default: vector]
    #[arg(long, value_name = "NAME")]
    pub(crate) vector_column: Option<String>,
    /// Not .npy: the columns of the documents, separated by commas, or '*' for all others. "document" alone is JSON
    /// as it stands; else a document is an object of the columns [default: document, if there is one]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) document_columns: Option<Vec<String>>,
    /// Ids, one a line, as many as FILE has rows. A stored id gets its new vector.
    #[arg(long, value_name = "FILE", conflicts_with = "id_prefix")]
    pub(crate) ids: Option<PathBuf>,
    /// Without --ids: name rows P-000000000, P-000000001, ... [default: FILE's stem]
    #[arg(long, value_name = "P")]
    pub(crate) id_prefix: Option<String>,
    /// What the ids are; the first write to a store fixes it [default: the store's, string for a new one]. Without
    /// --ids, ids of kind u64 are the row numbers 0, 1, ...
    #[arg(long, value_parser = named::<IdKind>(ID_KINDS), value_name = "KIND")]
    pub(crate) id_kind: Option<IdKind>,
    /// Documents, one JSON value a line, as many as FILE has rows. null keeps the document that is stored.
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) documents: Option<PathBuf>,
    /// Rows for which FILE has no document lose the one that is stored, which otherwise stays.
    #[arg(long)]
    pub(crate) remove_documents: bool,
    /// How distance is measured, for a new store [default: cosine]
    #[arg(long, value_parser = named::<Metric>(METRICS))]
    pub(crate) metric: Option<Metric>,
    /// Write only what is missing: skip rows whose id already holds the same bytes and, if one is given, the same
    /// document.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Without --ids: replace rows that are stored under these names.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Take float16 or float64 input, rounded to float32.
    #[arg(long)]
    pub(crate) convert: bool,
    /// Rows that become durable together [default: 16 MiB of rows, at least 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) batch_rows: Option<u64>,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Ids to print.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Print the JSON document of each id instead of its vector; null if it has none.
    #[arg(long)]
    pub(crate) document: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    #[command(flatten)]
    pub(crate) query: Query,
    /// How many to print for each query.
    #[arg(short, long, value_name = "K", default_value_t = 10, value_parser = positive)]
    pub(crate) k: usize,
    /// Only rows whose document this selects, as in '{"lang": "en", "year": {"$gte": 2020}}'.
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
    /// Only rows at this distance or nearer, in the units of the metric.
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) radius: Option<f32>,
    /// The share of the k nearest that the answer is to have on average, above 0 and at most 1 [default: 1, exact]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) recall: Option<f32>,
    /// Say after each query how the answer was found: the path taken, rows read, time of each stage.
    #[arg(long)]
    pub(crate) explain: bool,
    /// With --id: print that id too.
    #[arg(long, requires = "id")]
    pub(crate) with_self: bool,
    /// Print the JSON document of each result too; null if it has none.
    #[arg(long)]
    pub(crate) documents: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Query {
    /// Search with the vector of this id, and leave the id itself out.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Search with each row of a .npy file of shape (dim,) or (n, dim).
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) query: Option<PathBuf>,
    /// Search with these numbers, as in "0.1,0.2,0.3".
    #[arg(long, value_name = "NUMBERS", allow_hyphen_values = true)]
    pub(crate) vector: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("rows").required(true).args(["ids", "filter"]))]
pub(crate) struct Delete {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Ids to delete.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Delete every row whose document this selects, as in '{"lang": "en", "year": {"$gte": 2020}}'; '{}' selects all.
    #[arg(long = "where", value_name = "JSON")]
    pub(crate) filter: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Rewrite the segments of which at least this share of rows is dead, 0 to 1; 0 rewrites all that have a dead row.
    #[arg(long, value_name = "SHARE", default_value_t = CompactOptions::MIN_DEAD)]
    pub(crate) min_dead: f64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Optimize {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// A .npy file of queries, shape (n, dim); some hundreds are good, 32 the least.
    pub(crate) queries: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// Directory of the copy; must not be there.
    pub(crate) dir: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Directory of the damaged store; nothing in it is changed.
    pub(crate) store: PathBuf,
    /// Directory of the new store; must not be there.
    pub(crate) new: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Directory of the store.
    pub(crate) store: PathBuf,
    /// The file to write: Parquet if it ends in .parquet, Arrow IPC in .arrow or .feather, JSON lines in .jsonl or
    /// .ndjson, an array in .npy. What import takes without an option.
    pub(crate) out: PathBuf,
    /// With .npy: the text file to write, ids, one a line.
    #[arg(long, value_name = "OUT.txt")]
    pub(crate) ids: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// What OLD.dat and OLD.idx have in common; OLD.dat is taken too.
    pub(crate) old: PathBuf,
    /// Directory of the new store; must not be there.
    pub(crate) store: PathBuf,
    /// How distance is measured.
    #[arg(long, value_parser = named::<Metric>(METRICS), default_value = "cosine")]
    pub(crate) metric: Metric,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Directory to work in and keep; must not be there [default: a temporary one, removed at the end]
    pub(crate) dir: Option<PathBuf>,
    /// A .npy file to take instead of the bundled 256 rows.
    #[arg(long, value_name = "FILE", requires = "ids")]
    pub(crate) vectors: Option<PathBuf>,
    /// The ids of its rows, a line each.
    #[arg(long, value_name = "FILE", requires = "vectors")]
    pub(crate) ids: Option<PathBuf>,
    /// Print one JSON object at the end; the steps go to stderr.
    #[arg(long)]
    pub(crate) json: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("ask for at least 1".to_owned()),
        Ok(k) => Ok(k),
        Err(e) => Err(format!("not a count: {e}")),
    }
}
