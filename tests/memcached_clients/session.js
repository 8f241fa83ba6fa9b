// A session of the JavaScript client `memcached` with Larder.
'use strict';

const assert = require('node:assert/strict');
const { promisify } = require('node:util');
const Memcached = require('memcached');

const client = new Memcached(`127.0.0.1:${process.argv[2]}`, { timeout: 10000, retries: 0 });
const call = (name, ...args) => promisify(client[name]).apply(client, args);

async function session() {
    await call('flush');
    assert.equal(await call('get', 'none'), undefined);
    assert.equal(await call('set', 'key', 'value', 0), true);
    assert.equal(await call('get', 'key'), 'value');
    await assert.rejects(call('add', 'key', 'other', 0));
    assert.equal(await call('replace', 'key', 'other', 100), true);
    assert.equal(await call('append', 'key', '+'), true);
    assert.equal(await call('prepend', 'key', '-'), true);
    assert.equal(await call('get', 'key'), '-other+');

    const { key, cas } = await call('gets', 'key');
    assert.equal(key, '-other+');
    assert.equal(await call('cas', 'key', 'new', cas, 0), true);
    assert.equal(await call('cas', 'key', 'newer', cas, 0), false);

    assert.equal(await call('set', 'number', 10, 0), true);
    assert.equal(await call('get', 'number'), 10);
    assert.equal(await call('incr', 'number', 5), 15);
    assert.equal(await call('decr', 'number', 1), 14);
    assert.equal(await call('incr', 'absent', 1), false);

    assert.equal(await call('set', 'object', { a: [1, 2, null] }, 0), true);
    assert.deepEqual(await call('get', 'object'), { a: [1, 2, null] });
    const bytes = Buffer.from(Array.from({ length: 300000 }, (_, at) => at % 256));
    assert.equal(await call('set', 'bytes', bytes, 0), true);
    assert.deepEqual(await call('get', 'bytes'), bytes);

    const keys = Array.from({ length: 300 }, (_, n) => `many-${n}`);
    await Promise.all(keys.map((each) => call('set', each, each.toUpperCase(), 0)));
    const found = await call('getMulti', [...keys, 'absent']);
    assert.equal(Object.keys(found).length, 300);
    assert.equal(found['many-299'], 'MANY-299');

    assert.equal(await call('touch', 'key', 100), true);
    assert.equal(await call('del', 'key'), true);
    assert.equal(await call('del', 'key'), false);
    assert.equal(await call('set', 'gone', 'x', -1), true);
    assert.equal(await call('get', 'gone'), undefined);

    const [version] = await call('version');
    assert.match(version.version, /^1\.6/);
    const [stats] = await call('stats');
    assert.ok(stats.curr_items > 300 && stats.cmd_get > 0, JSON.stringify(stats));
    const [settings] = await call('settings');
    assert.ok(settings.maxbytes > 0, JSON.stringify(settings));
    client.end();
    console.log('memcached (JavaScript): passed');
}

session().catch((error) => {
    console.error(error);
    process.exit(1);
});
