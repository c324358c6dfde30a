// The page that lists what is covered tells the truth.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { page, render } from './table.mjs';

test('docs/conformance.md is what the tests say', () => {
  assert.equal(readFileSync(page, 'utf8'), render(), 'run: node tests/conformance/table.mjs');
});
