//! Values with a type.

use larder_client::{json, postcard};
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::over_every_way;

over_every_way! {
    a_value_with_a_type_comes_back_as_it_was
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    visits: Vec<u64>,
}

async fn a_value_with_a_type_comes_back_as_it_was(ground: &Ground) {
    let client = ground.client().await;
    let ada = User {
        name: "ada".to_owned(),
        visits: vec![1, 1 << 40],
    };
    client
        .set("j", json::to_bytes(&ada).expect("JSON"))
        .await
        .expect("stored");
    client
        .set("p", postcard::to_bytes(&ada).expect("postcard"))
        .await
        .expect("stored");
    let found = client.get_many(["j", "p"]).await.expect("answered");
    let [Some(j), Some(p)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(j.json().as_ref(), Ok(&ada));
    assert_eq!(p.postcard().as_ref(), Ok(&ada));
    assert!(p.json::<User>().is_err());
}
