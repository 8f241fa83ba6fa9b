// A session of gomemcache with Larder.
package main

import (
	"fmt"
	"log"
	"os"

	"github.com/bradfitz/gomemcache/memcache"
)

func check(name string, got, expected interface{}) {
	if got != expected {
		log.Fatalf("%s: got %v, expected %v", name, got, expected)
	}
}

func main() {
	client := memcache.New("127.0.0.1:" + os.Args[1])
	var keys []string
	for n := 0; n < 1000; n++ {
		key := fmt.Sprint("go-", n)
		keys = append(keys, key)
		item := memcache.Item{Key: key, Value: []byte(key), Flags: 7, Expiration: 100}
		check("Set", client.Set(&item), nil)
	}
	found, err := client.GetMulti(keys)
	check("GetMulti", err, nil)
	check("GetMulti, items", len(found), 1000)
	check("GetMulti, flags", found["go-5"].Flags, uint32(7))

	item, err := client.Get("go-1")
	check("Get", err, nil)
	item.Value = []byte("new")
	check("CompareAndSwap", client.CompareAndSwap(item), nil)
	check("CompareAndSwap, too late", client.CompareAndSwap(item), memcache.ErrCASConflict)

	check("Set, a number", client.Set(&memcache.Item{Key: "number", Value: []byte("10")}), nil)
	number, err := client.Increment("number", 5)
	check("Increment", number, uint64(15))
	number, err = client.Decrement("number", 50)
	check("Decrement", number, uint64(0))
	_, err = client.Increment("none", 1)
	check("Increment, absent", err, memcache.ErrCacheMiss)

	check("Add, present", client.Add(&memcache.Item{Key: "number"}), memcache.ErrNotStored)
	check("Touch", client.Touch("number", 50), nil)
	check("Delete", client.Delete("number"), nil)
	check("Delete, absent", client.Delete("number"), memcache.ErrCacheMiss)
	fmt.Println("gomemcache: passed")
}
