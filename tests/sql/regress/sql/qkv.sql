-- What docs/sql.md says of the extension, on tables small enough to check by hand.
CREATE EXTENSION qkv;
CREATE TABLE employees(name text, age int, salary int);
INSERT INTO employees VALUES ('Alice', 30, 5200), ('Bob', 45, 6100), ('Carol', 31, 5600), ('Dan', NULL, 4000);
-- scores 900 - (age - 30)², so softmax gives Alice e/(e + 1) = 0.7311 and Carol the rest
SELECT round(attention(vector(60, -1), vector(age, age * age), salary, 1.0)) AS salary FROM employees;
SELECT attention_top(vector(60, -1), vector(age, age * age), name, 2, 1.0) -> 'top' -> 0 AS best FROM employees;
SELECT attention(vector(60, -1), vector(age, age * age), vector(salary, 2 * salary), 0.0) AS equal_weights FROM employees;
SELECT s ->> 'rows' AS rows, round((s ->> 'effective_rows')::numeric, 4) AS effective, round((s ->> 'logsumexp')::numeric, 4) AS lse
  FROM (SELECT attention_stats(vector(60, -1), vector(age, age * age), 1.0) AS s FROM employees) t;
-- parts
SELECT vector_to_json(attention_final(attention_merge(state)))
  FROM (SELECT attention_state(vector(60, -1), vector(age, age * age), vector(salary), 1.0) AS state FROM employees GROUP BY name) t;
-- softmax_avg over scores 0 and ln 3: weights 1/4 and 3/4
CREATE TABLE s(score float8, x float8);
INSERT INTO s VALUES (0, 10), (ln(3), 20), ('-Infinity', 1e30), (NULL, 7), (1, NULL);
SELECT round(softmax_avg(score, x)::numeric, 10), round(softmax_avg(score, x, 1e9)::numeric, 6), softmax_avg(score, vector(x, -x)) FROM s;
SELECT exp(logsumexp(score))::numeric(12, 10) AS sum FROM s WHERE x > 0;
-- windows: a frame that moves, and one that only grows
SELECT name, round(softmax_avg(age, salary, 10) OVER (ORDER BY name ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)::numeric, 1) AS moving,
       round(softmax_avg(age, salary, 10) OVER (ORDER BY name)::numeric, 1) AS growing FROM employees WHERE age > 0;
-- after a huge score has left, nothing of it is left
SELECT x, logsumexp(x) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES (1, 0::float8), (2, 1e300), (3, 0), (4, 0)) t(i, x);
-- vectors
SELECT vector('[1, 2.5, -3e-2]'), vector(1, 2.5), vector('\x0000803f00000040'::bytea), vector(1, NULL), vector_to_bytea(vector(1, 2));
SELECT vector_to_json('{1,0.1,-3e38}'::real[]), vector_to_json('\x0000803f'::bytea);
SELECT attention('\x0000803f'::bytea, k, k) FROM (VALUES ('\x0000803f'::bytea)) t(k);
-- no rows, no visible rows
SELECT attention(k, k, k), attention_top(k, k, 1, 2), attention_stats(k, k), attention_state(k, k, k) FROM (VALUES (NULL::real[])) t(k);
SELECT attention_merge(NULL), softmax_avg(NULL, 1), softmax_avg('-Infinity', 1), logsumexp('-Infinity'), logsumexp(NULL);
-- refused
SELECT attention('{1,2}', k, 1) FROM (VALUES ('{1,2}'::real[]), (NULL), ('{1,2,3}')) t(k);
SELECT attention('{1,2}', '{1,2}', v) FROM (VALUES ('{1}'::real[]), ('{1,2}')) t(v);
SELECT attention('{1,2}'::real[], '{1,NaN}'::real[], 1);
SELECT attention('{1,2}'::real[], '{1,2}'::real[], '{Infinity}'::real[]);
SELECT attention('{1,2}'::real[], '{1,NULL}'::real[], 1);
SELECT attention('{1,2}'::real[], '{{1,2}}'::real[], 1);
SELECT attention_state('{}'::real[], '{1,2}'::real[], 1);
SELECT attention('\x00'::bytea, '\x00'::bytea, 1);
SELECT attention('{3e38,3e38}'::real[], '{3e38,3e38}'::real[], 1);
SELECT attention(k, k, 1) FROM (VALUES ('{1}'::real[]), ('{2}')) t(k);
SELECT attention('{1}'::real[], '{1}'::real[], 1, s) FROM (VALUES (1), (2)) t(s);
SELECT attention_top('{1}'::real[], '{1}'::real[], 'a', 0);
SELECT attention_top('{1}'::real[], '{1}'::real[], '\x00'::bytea, 1);
SELECT attention_top('{1}'::real[], '{1}'::real[], 'a', n) FROM (VALUES (1), (2)) t(n);
SELECT softmax_avg(1, 1, 0);
SELECT softmax_avg(1, 1, t) FROM (VALUES (1), (2)) t(t);
SELECT softmax_avg('NaN', 1);
SELECT softmax_avg(1, 'Infinity'::float8);
SELECT logsumexp('Infinity');
SELECT logsumexp('NaN') OVER ();
SELECT attention_merge('\x00');
SELECT attention_final(attention_merge(s)) FROM (SELECT attention_state(vector(x), '{1}', 1) AS s FROM (VALUES (1), (2)) t(x) GROUP BY x) t;
SELECT vector('[1,');
SELECT vector('[1, 1e39]');
SELECT vector(1, 1e39);
SELECT vector('{NaN}'::real[]);
SELECT qkv_mean_array(NULL);
-- in parallel
CREATE TABLE many AS SELECT i AS id, ARRAY[i % 7, i % 11]::real[] AS k, i % 13 AS v FROM generate_series(1, 20000) i;
ANALYZE many;
SET parallel_setup_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT attention('{1,1}', k, v), attention_top('{1,1}', k, id, 1), softmax_avg(v, v), logsumexp(v), attention_state('{1,1}', k, v), attention_stats('{1,1}', k)
  FROM many;
SELECT round(attention('{1,1}', k, v)::numeric, 4), attention_top('{1,1}', k, id, 1) -> 'top' -> 0 -> 'label', round(logsumexp(v)::numeric, 4) FROM many;
DROP EXTENSION qkv;
