<?php
// A session of PHP's memcached extension, which is libmemcached, with Larder.

$client = new Memcached();
$client->setOption(Memcached::OPT_BINARY_PROTOCOL, false);
$client->addServer('127.0.0.1', (int) $argv[1]);

function check(string $name, mixed $got, mixed $expected): void
{
    if ($got !== $expected) {
        fwrite(STDERR, "$name: got " . var_export($got, true) . ', expected ' . var_export($expected, true) . "\n");
        exit(1);
    }
}

check('flush', $client->flush(), true);
check('set', $client->set('list', [1, 2, 'x' => 3]), true);
check('get', $client->get('list'), [1, 2, 'x' => 3]);
$many = [];
for ($n = 0; $n < 1000; $n++) {
    $many["many-$n"] = $n;
}
check('setMulti', $client->setMulti($many, 60), true);
check('getMulti', $client->getMulti(array_keys($many), Memcached::GET_PRESERVE_ORDER), $many);
check('deleteMulti', $client->deleteMulti(['many-0', 'none']), ['many-0' => true, 'none' => Memcached::RES_NOTFOUND]);
check('increment', $client->increment('many-5', 3), 8);
check('decrement', $client->decrement('many-5', 100), 0);
$found = $client->get('list', null, Memcached::GET_EXTENDED);
check('cas', $client->cas($found['cas'], 'list', 'new'), true);
check('cas, too late', $client->cas($found['cas'], 'list', 'newer'), false);
check('cas, why', $client->getResultCode(), Memcached::RES_DATA_EXISTS);
check('add, present', $client->add('list', 1), false);
check('replace', $client->replace('list', 'b'), true);
check('touch', $client->touch('list', 100), true);
$client->setOption(Memcached::OPT_COMPRESSION, false);
check('append', $client->append('list', 'c') && $client->prepend('list', 'a'), true);
check('get, joined', $client->get('list'), 'abc');
check('getDelayed', $client->getDelayed(['list', 'many-7'], true), true);
check('fetchAll', count($client->fetchAll()), 2);
$large = str_repeat('x', 2_000_000);
check('set, large', $client->set('large', $large), true);
check('get, large', $client->get('large'), $large);
check('set, too large', $client->set('huge', str_repeat('x', 20_000_000)), false);
check('get, after that', $client->get('many-9'), 9);
check('set, expired', $client->set('gone', 1, -1), true);
check('get, expired', $client->get('gone'), false);
check('delete', $client->delete('list'), true);
$stats = current($client->getStats());
check('getStats', $stats['curr_items'] > 900, true);
echo "php-memcached: passed\n";
