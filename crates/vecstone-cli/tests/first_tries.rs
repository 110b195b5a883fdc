//! What people try first, coming from other programs.

mod common;

use common::Place;

#[test]
fn a_message_says_what_to_write() {
    let place = Place::new();
    place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy"]).ok();
    let commands: [(&[&str], &str); 9] = [
        (&["search", "s", "--vector", "1,0", "--limit", "3"], "-k says how many results"),
        (&["search", "s", "--vector", "1,0", "--top-k=3"], "-k says how many results"),
        (&["search", "s", "--vector", "1,0", "-n", "3"], "-k says how many results"),
        (&["search", "s", "--vector", "1,0", "--where", "{}"], "--filter selects rows"),
        (&["search", "s", "1,0"], "give the query with --vector"),
        (
            &["search", "s", "--vector", "1,0", "--radius", "-1"],
            "no cosine distance is below 0; leave it out",
        ),
        (&["search", "s", "--vector", "1,0", "--filter", "{\"a\": {\"gt\": 3}}"], "\"$gt\""),
        (&["create", "t", "--dimension", "3"], "--dim says how many components"),
        (&["export", "s", "no/out.parquet"], "no: no such directory; make it first"),
    ];
    for (args, says) in commands {
        place.run(args).fails(2, &[says]);
    }
    place.run(&["create", "ip", "--dim", "2", "--metric", "IP"]).ok();
    place.run(&["search", "ip", "--vector", "1,0", "--radius", "-1"]).ok();
}
