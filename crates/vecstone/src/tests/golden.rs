//! Writes the golden stores of this format version: small stores of every kind, kept in the repository and read by every
//! later release (`tests/golden.rs`).
//!
//! ```sh
//! cargo test -p vecstone --lib -- --ignored golden::write
//! ```
//!
//! Uuid and salts are fixed, so that the same code writes the same bytes. Beside each store stands a text that says what
//! must be read of it. It comes from the plain map below and [`reference_distance`], never from reading the store.

use super::model::{DIR, options, root};
use crate::format::{Identity, crc32c};
use crate::pair::files::seed_random;
use crate::query::distance::to_public;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Document, Id, Metric, OpenOptions, Uuid, VectorStore, WriteBatch, reference_distance};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1");
/// In each LOCK: the process that wrote the store is another one each time.
const PID: &str = "4242";

/// A store in the making, and what it must hold.
struct Golden {
    name: &'static str,
    dim: u32,
    metric: Metric,
    options: OpenOptions,
    disk: SimDisk,
    store: Option<VectorStore>,
    rows: BTreeMap<Id, (Vec<f32>, Option<String>)>,
    gone: BTreeSet<Id>,
    attributes: Option<&'static str>,
    recovery: String,
    puts: u16,
}

impl Golden {
    /// A store whose segments have so many records.
    fn new(name: &'static str, dim: u32, metric: Metric, records: u64) -> Golden {
        let seed = name.bytes().fold(1, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte));
        seed_random(seed);
        let (disk, options) = (SimDisk::new(&root()), options().segment_records(records));
        let uuid = std::array::from_fn(|at| name.as_bytes()[at % name.len()]);
        let identity = Identity { uuid, segment: 1, salt: uuid.map(|byte| !byte) };
        let made =
            VectorStore::create_on(Arc::new(disk.clone()), Path::new(DIR), dim, metric, identity, &options);
        Golden {
            name,
            dim,
            metric,
            options,
            disk,
            store: Some(made.expect("made")),
            rows: BTreeMap::new(),
            gone: BTreeSet::new(),
            attributes: None,
            recovery: "clean".to_owned(),
            puts: 0,
        }
    }

    fn store(&self) -> &VectorStore {
        self.store.as_ref().expect("open")
    }

    /// Puts in one batch.
    fn put(&mut self, puts: &[(&Id, Document<&str>)]) -> &mut Golden {
        let dim = self.dim as usize;
        let vectors: Vec<_> = puts.iter().zip(self.puts..).map(|(_, n)| vector(dim, n)).collect();
        self.puts += u16::try_from(puts.len()).expect("few");
        let mut batch = WriteBatch::new();
        for (&(id, document), vector) in puts.iter().zip(&vectors) {
            batch.put_with_document(id, vector, document);
        }
        self.store().write(&batch).expect("stored");
        for ((id, document), vector) in puts.iter().zip(vectors) {
            let kept = self.rows.remove(*id).and_then(|(_, document)| document);
            let document = match document {
                Document::Keep => kept,
                Document::None | Document::Json("null") => None,
                Document::Json(text) => Some((*text).to_owned()),
            };
            self.rows.insert((*id).clone(), (vector, document));
            self.gone.remove(*id);
        }
        self
    }

    /// Puts that say nothing of documents.
    fn put_plain(&mut self, ids: &[Id]) -> &mut Golden {
        self.put(&ids.iter().map(|id| (id, Document::Keep)).collect::<Vec<_>>())
    }

    fn delete(&mut self, ids: &[Id]) -> &mut Golden {
        assert_eq!(self.store().delete_many(ids).expect("deleted"), ids.len());
        for id in ids {
            self.rows.remove(id).expect("there");
            self.gone.insert(id.clone());
        }
        self
    }

    fn flush(&mut self) -> &mut Golden {
        self.store().flush().expect("flushed");
        self
    }

    fn compact(&mut self) -> &mut Golden {
        self.store().compact().expect("compacted");
        self
    }

    fn clear(&mut self) -> &mut Golden {
        self.store().clear().expect("cleared");
        self.rows.clear();
        self.gone.clear();
        self
    }

    fn set_attributes(&mut self, attributes: &'static str) -> &mut Golden {
        self.store().set_attributes(Some(attributes)).expect("set");
        self.attributes = Some(attributes);
        self
    }

    fn close(&mut self) -> &mut Golden {
        self.store.take().expect("open").close().expect("closed");
        self
    }

    /// The process is killed.
    fn kill(&mut self) -> &mut Golden {
        self.disk.kill(self.store.take());
        self
    }

    fn open(&mut self) -> &mut Golden {
        let opened = VectorStore::open_on(Arc::new(self.disk.clone()), Path::new(DIR), &self.options);
        self.store = Some(opened.expect("opened"));
        self
    }

    /// Changes files by hand.
    fn edit(&mut self, edit: impl FnOnce(&mut Image)) -> &mut Golden {
        assert!(self.store.is_none(), "open");
        let mut image = self.disk.image();
        edit(&mut image);
        self.disk = SimDisk::new(&image);
        self
    }

    /// Of all `.ids` those of these segments stay: one has 20 KiB, and a store does without it.
    fn keep_ids(&mut self, segments: &[&str]) -> &mut Golden {
        self.edit(|image| {
            let stays = |path: &Path| segments.iter().any(|name| path == file(name).with_extension("ids"));
            image.files.retain(|path, _| path.extension().is_none_or(|kind| kind != "ids") || stays(path));
        })
    }

    /// What must be read. The lines that a search gives follow its question.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |fields: &[&str]| writeln!(text, "{}", fields.join("\t")).expect("in memory");
        line(&["metric", self.metric.name()]);
        line(&["dim", &self.dim.to_string()]);
        line(&["kind", self.rows.keys().next().map_or("-", |id| id.kind().name())]);
        line(&["recovery", &self.recovery]);
        line(&["attributes", self.attributes.unwrap_or("-")]);
        for (id, (vector, document)) in &self.rows {
            line(&["row", &id.to_string(), &bits(vector), document.as_deref().unwrap_or("-")]);
        }
        for id in &self.gone {
            line(&["gone", &id.to_string()]);
        }
        for (question, k) in [(1000, 3), (1001, 100)] {
            let query = vector(self.dim as usize, question);
            line(&["search", &bits(&query), &k.to_string()]);
            let distance = |(id, (row, _)): (&Id, &(Vec<f32>, _))| {
                (reference_distance(self.metric, &query, row), id.to_string())
            };
            let mut hits: Vec<_> = self.rows.iter().map(distance).collect();
            hits.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(hits.windows(2).all(|pair| pair[0].0 < pair[1].0), "a tie: {hits:?}");
            for (distance, id) in hits.iter().take(k) {
                line(&["hit", id, &bits(&[to_public(self.metric, *distance)])]);
            }
        }
        text
    }

    /// Puts the files and the text in the place of those that are there.
    #[expect(clippy::disallowed_methods, reason = "for the repository, not for a store")]
    fn save(&mut self) {
        assert!(self.store.is_none(), "open");
        let home = Path::new(HOME).join(self.name);
        _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).expect("made");
        for (path, mut bytes) in self.disk.image().files {
            if path.ends_with("LOCK") {
                let text = String::from_utf8(bytes).expect("text");
                let (_, token) = text.split_once('\n').expect("two lines");
                bytes = format!("{PID}\n{token}").into_bytes();
            }
            std::fs::write(home.join(path.file_name().expect("a name")), bytes).expect("written");
        }
        std::fs::write(home.with_extension("txt"), self.text()).expect("written");
    }
}

fn bits(vector: &[f32]) -> String {
    vector.iter().map(|x| format!("{:08x}", x.to_bits())).collect()
}

/// The row of the n-th put: small numbers, with zeros, signs, the smallest and the largest among them.
fn vector(dim: usize, n: u16) -> Vec<f32> {
    let component = |at: u16| match (n, at) {
        (3, _) => 0.0,
        (4, 0) => f32::MAX,
        (4, 1) | (1, 2) => -0.0,
        (5, 0) => f32::from_bits(1),
        (5, 1) => f32::MIN_POSITIVE,
        _ => (f32::from((n * 37 + at * 101) % 193) - 96.0) / 7.0,
    };
    (0..u16::try_from(dim).expect("small")).map(component).collect()
}

fn file(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn text<const N: usize>(ids: [&str; N]) -> [Id; N] {
    ids.map(Id::from)
}

fn numbers<const N: usize>(ids: [u64; N]) -> [Id; N] {
    ids.map(Id::from)
}

/// Appends what a writer had not finished when it died: a row and a line without a COMMIT, and half a record.
fn tear(image: &mut Image, segment: &str, row: usize) -> String {
    let mut append = |kind: &str, bytes: &[u8]| {
        let file = image.files.get_mut(&file(&format!("{segment}.{kind}"))).expect("there");
        let len = file.len() as u64;
        file.extend_from_slice(bytes);
        len
    };
    let at = append("dat", &vec![0x5A; row]);
    append("jsonl", b"{\"torn\":true}\n");
    let put = [&4u32.to_le_bytes()[..], b"torn", &at.to_le_bytes(), &[200, 0, 0, 0, 2]].concat();
    append("idx", &put);
    format!("dropped .idx {} .dat {row} .jsonl 14", put.len())
}

/// A section of tag 900 without flags, and a side file, as a later release may have written them.
fn from_later(image: &mut Image) {
    let manifest = image.files.get_mut(&file("MANIFEST")).expect("there");
    let section = [&900u16.to_le_bytes()[..], &[0, 0], &5u32.to_le_bytes(), b"later"].concat();
    manifest.truncate(manifest.len() - 4);
    let len = u32::from_le_bytes(manifest[56..60].try_into().expect("four bytes"));
    let len = len + u32::try_from(section.len()).expect("short");
    manifest[56..60].copy_from_slice(&len.to_le_bytes());
    manifest.extend_from_slice(&section);
    let crc = crc32c(manifest);
    manifest.extend_from_slice(&crc.to_le_bytes());
    image.files.insert(file("00000001.later.side"), b"of a later release".to_vec());
}

fn strings() -> Golden {
    let mut golden = Golden::new("strings", 5, Metric::L2, 1000);
    let long = "long ".repeat(60);
    let [a, b, c, d, unicode, long] = &text(["a", "b b", "c", "d", "ünïcödé 🗿", &long]);
    let nested = r#"{"v": 1, "deep": [{"ü": [null, true, -0.50, 1e400]}, "\u0000 \ud83d\uddff 🗿"], "v": 2}"#;
    golden
        .put(&[(a, Document::Json(r#"{"v":1}"#)), (b, Document::Keep), (c, Document::Json(nested))])
        .flush();
    golden.put(&[(unicode, Document::Json("null")), (long, Document::Json("\"text\""))]);
    golden.put(&[(a, Document::Keep), (c, Document::Keep), (c, Document::Keep)]).flush();
    golden.put(&[(d, Document::Json("[]"))]).delete(&[d.clone(), b.clone()]);
    golden.put(&[(long, Document::None), (b, Document::Json("12345678901234567890"))]);
    golden.close();
    golden
}

fn sealed_numbers() -> Golden {
    let mut golden = Golden::new("numbers", 3, Metric::Ip, 4);
    // In the store that is kept the last one is 2^64 - 1, which a store does not take any more, and which is read.
    golden.put_plain(&numbers([0, 1, 7, crate::MAX_ID_NUMBER])).flush();
    golden.put_plain(&numbers([8, 9, 10])).delete(&numbers([7])).flush();
    golden.put_plain(&numbers([1, 11, 12, 13])).put_plain(&numbers([14, 9])).delete(&numbers([12, 14]));
    // The last kills are in the active log only.
    golden.delete(&numbers([8])).put_plain(&numbers([0, 15])).close().keep_ids(&["00000001", "00000005"]);
    golden
}

fn uuids() -> Golden {
    let mut golden = Golden::new("uuids", 8, Metric::Cosine, 1000);
    let [a, b, c, d] = &[0, 1, 0xFFFF, u128::MAX].map(|n| Id::from(Uuid::from_u128(n)));
    golden.put_plain(&[a.clone(), b.clone(), c.clone(), d.clone()]).flush();
    golden.set_attributes("{\"model\": \"golden ✓\", \"dims\": [8, null], \"deep\": {\"a\": {\"b\": 1.50}}}");
    // Lines of rows that are older than the first document have no checksum.
    golden.put(&[(c, Document::Json("{\"late\":true}"))]).delete(std::slice::from_ref(a));
    golden.close();
    golden
}

fn compacted() -> Golden {
    let mut golden = Golden::new("compacted", 4, Metric::L2, 3);
    let ids = text(["a", "b", "c", "d", "e", "f", "g", "h"]);
    for (n, ids) in ids.chunks(2).enumerate() {
        let json = format!("{{\"chunk\":{n}}}");
        golden.put(&[(&ids[0], Document::Json(&json)), (&ids[1], Document::Keep)]);
    }
    golden.delete(&text(["a", "d"])).put_plain(&text(["e"])).flush().compact();
    golden.put_plain(&text(["c", "i"])).delete(&text(["g"])).close().keep_ids(&["00000004", "00000007"]);
    golden
}

/// Killed twice: between are a recovery and a session; at the end a batch that nothing proves, and torn bytes.
fn killed() -> Golden {
    let mut golden = Golden::new("killed", 4, Metric::Cosine, 6);
    let [a, b, c] = &text(["a", "b", "c"]);
    let json = Document::Json("{\"v\":\"ü\"}");
    golden.put(&[(a, json), (b, Document::Keep), (c, json)]).flush().put_plain(&text(["d"])).kill();
    golden.open().put(&[(b, json)]).delete(&text(["c"])).put_plain(&text(["e", "f"])).flush();
    golden.put(&[(a, Document::None), (b, Document::Keep)]).delete(&text(["d"])).kill();
    let mut dropped = String::new();
    golden.edit(|image| dropped = tear(image, "00000002", 16));
    golden.recovery = format!("unproven 2 {dropped}");
    golden
}

/// The power goes while the active segment is sealed: the next pair is made, and MANIFEST does not name it.
fn interrupted() -> Golden {
    for calls in 1.. {
        let mut golden = Golden::new("interrupted", 4, Metric::Ip, 3);
        golden.put_plain(&text(["a", "b"])).flush().put_plain(&text(["b"])).flush();
        golden.disk.power_off_at(golden.disk.steps() + calls);
        let id = Id::from("c");
        let sealed = golden.store().put(&id, &[0.0; 4]);
        assert!(sealed.is_err(), "the power stayed on");
        golden.kill().disk.power_on();
        let files = golden.disk.image().files;
        if files.get(&file("MANIFEST.new")).is_some_and(|bytes| !bytes.is_empty())
            && files.contains_key(&file("00000002.idx"))
        {
            golden.recovery = "unproven 0 dropped .idx 0 .dat 0 .jsonl 0".to_owned();
            return golden;
        }
    }
    unreachable!("a seal makes both files")
}

fn without_ids() -> Golden {
    let mut golden = Golden::new("without_ids", 5, Metric::L2, 4);
    let [a, b] = &text(["a", "b"]);
    golden.put(&[(a, Document::Json("1")), (b, Document::Json("2"))]).put_plain(&text(["c", "d", "e"]));
    golden.delete(&text(["d"])).put_plain(&text(["b", "f", "g"])).close();
    golden.keep_ids(&[]);
    golden
}

fn cleared() -> Golden {
    let mut golden = Golden::new("cleared", 4, Metric::Cosine, 3);
    golden.put_plain(&text(["a", "b", "c", "d"])).set_attributes("{}").clear();
    golden.put_plain(&numbers([5, 6, 1 << 60])).flush().put_plain(&numbers([6, 8])).close().keep_ids(&[]);
    golden
}

fn later() -> Golden {
    let mut golden = Golden::new("later", 4, Metric::L2, 3);
    golden
        .set_attributes("{\"kept\": true}")
        .put_plain(&text(["a", "b", "c", "d", "e"]))
        .close()
        .edit(from_later);
    golden
}

fn empty() -> Golden {
    let mut golden = Golden::new("empty", 2, Metric::Cosine, 1000);
    golden.close();
    golden
}

#[test]
#[ignore = "writes to the repository: the golden stores of a format that is not released yet"]
fn write() {
    let all =
        [strings, sealed_numbers, uuids, compacted, killed, interrupted, without_ids, cleared, later, empty];
    all.into_iter().for_each(|golden| golden().save());
    seed_random(0);
}
