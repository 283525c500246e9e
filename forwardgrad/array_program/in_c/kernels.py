"""Products of matrices in C: packed panels, and tiles of the result that stay in registers."""

KERNELS = """\
#if defined(__AVX512F__)
#define VECTOR 64
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
#if defined(__GNUC__)
#define INLINED static inline __attribute__((always_inline))
#define MAYBE_UNUSED __attribute__((unused))
#if defined(__clang__)
#define ONCE __attribute__((noinline))
#else
#define ONCE __attribute__((noinline, noclone))
#endif
#else
#define ONCE
#define INLINED static inline
#define MAYBE_UNUSED
#endif

/* A tile of a result; how many terms of its sums are added before the next tile, and for how many columns and rows
   matrices are packed at a time, which is what fits in caches. SPARSE is the part of a matrix, one in so many entries,
   up to which its zeros are passed over, and LISTED how many entries of a row are then remembered; a line of the cache
   holds LINE entries. */
enum { WIDTH = 2 * VECTOR / sizeof(real), HEIGHT = VECTOR == 64 ? 8 : 4, DEPTH = 256, COLUMNS = 512, ROWS = 64 };
enum { FEW = 4, MANY = 8, SPARSE = 8, LISTED = 1024, LINE = 64 / sizeof(real) };

/* The entries of a matrix of k rows and n columns in panels of some columns, the last of which is filled with zeros. */
static inline extent panels(extent n, extent k) {
    return n > 0 && k > 0 ? (n + WIDTH - 1) / WIDTH * WIDTH * k : 0;
}

/* The entries that a product packs at a time: tile by tile, or, where b is sparse, its result and some rows of a. */
MAYBE_UNUSED static inline extent packing_room(extent m, extent n, extent k) {
    const extent columns = n < COLUMNS ? n : COLUMNS, rows = m < COLUMNS ? m : COLUMNS, depth = k < DEPTH ? k : DEPTH;
    const extent tiles = panels(columns, depth) + ROWS * depth;
    const extent turned = m < WIDTH ? 0 : panels(rows, depth) + columns * (rows + 2 * depth + 1);
    return tiles > turned ? tiles : turned;
}

/* Put a matrix into panels; bk and bn are the steps from row to row and from column to column. */
ONCE static void pack(extent n, extent k, const real *restrict b, extent bk, extent bn, real *restrict packed) {
    for (extent j = 0; j < n; j += WIDTH) {
        const extent columns = n - j < WIDTH ? n - j : WIDTH;
        if (columns == WIDTH && bn == 1) {
            for (extent p = 0; p < k; p++) {
                #pragma omp simd
                for (extent w = 0; w < WIDTH; w++) {
                    packed[p * WIDTH + w] = b[p * bk + j + w];
                }
            }
        } else {
            for (extent p = 0; p < k; p += LINE) {
                const extent rows = k - p < LINE ? k - p : LINE;
                for (extent w = 0; w < columns; w++) {
                    for (extent q = p; q < p + rows; q++) {
                        packed[q * WIDTH + w] = b[q * bk + (j + w) * bn];
                    }
                }
            }
            for (extent w = columns; w < WIDTH; w++) {
                for (extent p = 0; p < k; p++) {
                    packed[p * WIDTH + w] = 0;
                }
            }
        }
        packed += k * WIDTH;
    }
}

/* Put rows of a matrix whose columns lie further apart than its rows into strips of a tile's height. */
static void pack_rows(extent m, extent k, const real *restrict a, extent am, extent ak, real *restrict packed) {
    for (extent p = 0; p < k; p++) {
        for (extent i = 0; i < m; i += HEIGHT) {
            #pragma omp simd
            for (extent h = 0; h < HEIGHT; h++) {
                packed[(i * k) + p * HEIGHT + h] = a[(i + h) * am + p * ak];
            }
        }
    }
}

/* Whether most entries of a matrix are zeros, as where units spike. */
static int is_sparse(extent m, extent k, const real *a, extent am, extent ak) {
    const extent rows = ak == 1 ? m : k, length = ak == 1 ? k : m, step = ak == 1 ? am : ak, next = ak == 1 ? ak : am;
    extent found = 0;
    for (extent i = 0; i < rows && found * SPARSE <= m * k; i++) {
        int here = 0;
        if (next == 1) {
            #pragma omp simd reduction(+ : here)
            for (extent p = 0; p < length; p++) {
                here += a[i * step + p] != 0;
            }
        } else {
            for (extent p = 0; p < length; p++) {
                here += a[i * step + p * next] != 0;
            }
        }
        found += here;
    }
    return found * SPARSE <= m * k;
}

/* A tile: some rows of a, times a panel of k > 0 rows that are bk apart; `columns` of the result are wanted. Its sums
   begin with their first terms: a compiler has zeros written by a call. */
INLINED void tile(const extent rows, extent k, const real *restrict a, extent am, extent ak, const real *restrict b,
                  extent bk, real *restrict c, extent cm, extent columns, int add) {
    real sum[HEIGHT][WIDTH];
    for (extent i = 0; i < rows; i++) {
        const real factor = a[i * am];
        #pragma omp simd
        for (extent w = 0; w < WIDTH; w++) {
            sum[i][w] = factor * b[w];
        }
    }
    for (extent p = 1; p < k; p++) {
        for (extent i = 0; i < rows; i++) {
            const real factor = a[i * am + p * ak];
            #pragma omp simd
            for (extent w = 0; w < WIDTH; w++) {
                sum[i][w] += factor * b[p * bk + w];
            }
        }
    }
    for (extent i = 0; i < rows; i++) {
        for (extent w = 0; w < columns; w++) {
            c[i * cm + w] = add ? c[i * cm + w] + sum[i][w] : sum[i][w];
        }
    }
}

/* Two panels, or one, of a row of a product that has `count` terms; only the columns that are wanted. */
INLINED void add_terms(const extent panels, extent k, extent count, const int *restrict at,
                       const real *restrict factors, const real *restrict packed, real *restrict row, extent columns,
                       int add) {
    real sum[2 * WIDTH];
    for (extent w = 0; w < panels * WIDTH; w++) {
        sum[w] = 0;
    }
    for (extent q = 0; q < count; q++) {
        const real factor = factors[q], *first = packed + at[q];
        #pragma omp simd
        for (extent w = 0; w < WIDTH; w++) {
            sum[w] += factor * first[w];
        }
        if (panels == 2) {
            #pragma omp simd
            for (extent w = 0; w < WIDTH; w++) {
                sum[WIDTH + w] += factor * first[k * WIDTH + w];
            }
        }
    }
    for (extent w = 0; w < columns; w++) {
        row[w] = add ? row[w] + sum[w] : sum[w];
    }
}

/* A row of a product that has `count` terms. Its sums have the order of tiles. */
ONCE static void add_row(extent n, extent k, extent count, const int *restrict at, const real *restrict factors,
                    const real *restrict packed, real *restrict row, int add) {
    extent j = 0;
    for (; j + 2 * WIDTH <= n; j += 2 * WIDTH) {
        add_terms(2, k, count, at, factors, packed + j * k, row + j, 2 * WIDTH, add);
    }
    for (; j < n; j += WIDTH) {
        add_terms(1, k, count, at, factors, packed + j * k, row + j, n - j < WIDTH ? n - j : WIDTH, add);
    }
}

/* The product of a matrix of mostly zeros, at most LISTED a row, and a packed one. */
ONCE static void multiply_sparse(extent m, extent n, extent k, const real *restrict a, extent am, extent ak,
                            const real *restrict packed, real *restrict c, extent cm, int add) {
    int at[LISTED];
    real factors[LISTED];
    for (extent i = 0; i < m; i++) {
        extent count = 0;
        for (extent p = 0; p < k; p++) {
            const real factor = a[i * am + p * ak];
            at[count] = (int)(p * WIDTH);
            factors[count] = factor;
            count += factor != 0;
        }
        add_row(n, k, count, at, factors, packed, c + i * cm, add);
    }
}

/* c = a b, or c += a b, for a matrix b of mostly zeros, by way of its transpose: for each column of b, what is not zero
   in it is listed, and makes a row of the turned result. */
ONCE static void multiply_turned(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *b,
                            extent bk, extent bn, real *c, extent cm, int add, real *packed) {
    const extent most = m < COLUMNS ? m : COLUMNS, deep = k < DEPTH ? k : DEPTH;
    real *turned = packed + panels(most, deep), *factors = turned + n * most;
    int *at = (int *)(factors + n * deep), *counts = at + n * deep;
    for (extent i = 0; i < m; i += most) {
        const extent rows = m - i < most ? m - i : most;
        for (extent p = 0; p < k; p += deep) {
            const extent depth = k - p < deep ? k - p : deep;
            pack(rows, depth, a + i * am + p * ak, ak, am, packed);
            for (extent j = 0; j < n; j++) {
                counts[j] = 0;
            }
            for (extent q = 0; q < depth; q++) {
                int count = 0, here[COLUMNS];
                for (extent j = 0; j < n; j++) {
                    here[count] = (int)j;
                    count += b[(p + q) * bk + j * bn] != 0;
                }
                for (int h = 0; h < count; h++) {
                    const extent j = here[h], place = j * deep + counts[j]++;
                    at[place] = (int)(q * WIDTH);
                    factors[place] = b[(p + q) * bk + j * bn];
                }
            }
            for (extent j = 0; j < n; j++) {
                add_row(rows, depth, counts[j], at + j * deep, factors + j * deep, packed, turned + j * most, p > 0);
            }
        }
        for (extent h = 0; h < rows; h++) {
            for (extent j = 0; j < n; j++) {
                c[(i + h) * cm + j] = add ? c[(i + h) * cm + j] + turned[j * most + h] : turned[j * most + h];
            }
        }
    }
}

/* c = a b, or c += a b, tile by tile, where b is packed. */
INLINED void multiply_tiles(extent m, extent n, extent k, const real *a, extent am, extent ak, extent next,
                            const real *packed, real *c, extent cm, int add) {
    for (extent j = 0; j < n; j += WIDTH) {
        const extent columns = n - j < WIDTH ? n - j : WIDTH;
        const real *panel = packed + j * k;
        extent i = 0;
        for (; i + HEIGHT <= m; i += HEIGHT) {
            const real *rows = a + i / HEIGHT * next;
            if (columns == WIDTH) {
                tile(HEIGHT, k, rows, am, ak, panel, WIDTH, c + i * cm + j, cm, WIDTH, add);
            } else {
                tile(HEIGHT, k, rows, am, ak, panel, WIDTH, c + i * cm + j, cm, columns, add);
            }
        }
        for (; i + 2 <= m; i += 2) {
            tile(2, k, a + i * am, am, ak, panel, WIDTH, c + i * cm + j, cm, columns, add);
        }
        for (; i < m; i++) {
            tile(1, k, a + i * am, am, ak, panel, WIDTH, c + i * cm + j, cm, columns, add);
        }
    }
}

/* The same, for a as it lies. */
ONCE static void multiply_dense(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *packed,
                                real *c, extent cm, int add) {
    if (ak == 1) {
        multiply_tiles(m, n, k, a, am, 1, HEIGHT * am, packed, c, cm, add);
    } else {
        multiply_tiles(m, n, k, a, am, ak, HEIGHT * am, packed, c, cm, add);
    }
}

/* A row times some columns whose rows are bk apart. */
static void add_columns(extent n, extent k, const real *restrict a, extent ak, const real *restrict b, extent bk,
                        real *restrict c, int add) {
    for (extent j = 0; j < n; j++) {
        c[j] = add ? c[j] : 0;
    }
    for (extent p = 0; p < k; p++) {
        const real factor = a[p * ak];
        #pragma omp simd
        for (extent j = 0; j < n; j++) {
            c[j] += factor * b[p * bk + j];
        }
    }
}

/* The same for few rows, which are not worth packing b. */
ONCE static void multiply_few(extent m, extent n, extent k, const real *restrict a, extent am, extent ak,
                         const real *restrict b, extent bk, extent bn, real *restrict c, extent cm, int add) {
    for (extent i = 0; i < m; i++) {
        extent j = 0;
        for (; bn == 1 && k > 0 && j + WIDTH <= n; j += WIDTH) {
            tile(1, k, a + i * am, am, ak, b + j, bk, c + i * cm + j, cm, WIDTH, add);
        }
        if (bn == 1 && j < n) {
            add_columns(n - j, k, a + i * am, ak, b + j, bk, c + i * cm + j, add);
            j = n;
        }
        for (; j < n; j++) {
            const real *row = a + i * am, *column = b + j * bn;
            real sum = add ? c[i * cm + j] : 0;
            if (ak == 1 && bk == 1) {
                #pragma omp simd reduction(+ : sum)
                for (extent p = 0; p < k; p++) {
                    sum += row[p] * column[p];
                }
            } else {
                #pragma omp simd reduction(+ : sum)
                for (extent p = 0; p < k; p++) {
                    sum += row[p * ak] * column[p * bk];
                }
            }
            c[i * cm + j] = sum;
        }
    }
}

/* c = a b, or c += a b, where b is packed. */
ONCE static void multiply_packed(extent m, extent n, extent k, const real *a, extent am, extent ak,
                                 const real *packed, real *c, extent cm, int add) {
    if (k == 0) {
        multiply_few(m, n, 0, a, am, ak, packed, 0, 1, c, cm, add);
    } else if (n >= WIDTH && k <= LISTED && is_sparse(m, k, a, am, ak)) {
        multiply_sparse(m, n, k, a, am, ak, packed, c, cm, add);
    } else {
        multiply_dense(m, n, k, a, am, ak, packed, c, cm, add);
    }
}

/* The same, where a is packed first, in strips, some rows at a time. */
ONCE static void multiply_strips(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *packed,
                            real *c, extent cm, int add, real *strips) {
    extent i = 0;
    for (; i + HEIGHT <= m; i += ROWS) {
        const extent rows = m - i < ROWS ? (m - i) / HEIGHT * HEIGHT : ROWS;
        pack_rows(rows, k, a + i * am, am, ak, strips);
        multiply_tiles(rows, n, k, strips, 1, HEIGHT, HEIGHT * k, packed, c + i * cm, cm, add);
    }
    i = m / HEIGHT * HEIGHT;
    multiply_dense(m - i, n, k, a + i * am, am, ak, packed, c + i * cm, cm, add);
}

/* c = a b, or c += a b, for matrices of m, k and n rows and columns whose entries are any steps apart. */
MAYBE_UNUSED ONCE static void multiply(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *b,
                                  extent bk, extent bn, real *c, extent cm, int add, real *packed) {
    if (m < FEW || k == 0) {
        multiply_few(m, n, k, a, am, ak, b, bk, bn, c, cm, add);
        return;
    }
    const int few = n >= WIDTH && is_sparse(m, k, a, am, ak);
    if (!few && m >= WIDTH && n <= COLUMNS && is_sparse(n, k, b, bn, bk)) {
        multiply_turned(m, n, k, a, am, ak, b, bk, bn, c, cm, add, packed);
        return;
    }
    for (extent j = 0; j < n; j += COLUMNS) {
        const extent columns = n - j < COLUMNS ? n - j : COLUMNS;
        for (extent p = 0; p < k; p += DEPTH) {
            const extent depth = k - p < DEPTH ? k - p : DEPTH;
            const real *left = a + p * ak;
            const int more = add || p > 0;
            pack(columns, depth, b + p * bk + j * bn, bk, bn, packed);
            if (few) {
                multiply_sparse(m, columns, depth, left, am, ak, packed, c + j, cm, more);
            } else if (ak != 1 && m >= HEIGHT && columns > WIDTH) {
                multiply_strips(m, columns, depth, left, am, ak, packed, c + j, cm, more,
                                packed + panels(columns, depth));
            } else {
                multiply_dense(m, columns, depth, left, am, ak, packed, c + j, cm, more);
            }
        }
    }
}
"""
