// memjs speaks the binary protocol: it is refused, with a sentence, and not left waiting.
'use strict';

const assert = require('node:assert/strict');
const memjs = require('memjs');

const client = memjs.Client.create(`127.0.0.1:${process.argv[2]}`, {
    timeout: 5,
    retries: 0,
    logger: { log() {} },
});

client.get('key').then(
    (answer) => {
        console.error('a binary request was answered', answer);
        process.exit(1);
    },
    (error) => {
        assert.match(String(error.message), /text protocol|not supported|closed|ended|131/i);
        client.close();
        console.log(`memjs: refused as it is to be (${error.message})`);
    },
);
