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
#else
#define INLINED static inline
#define MAYBE_UNUSED
#endif

/* A tile of a result, and how many terms of its sums are added before the next tile. */
enum { WIDTH = 2 * VECTOR / sizeof(real), HEIGHT = VECTOR == 64 ? 8 : 4, DEPTH = 256, FEW = 4, MANY = 8 };

/* The entries of a matrix of k rows and n columns in panels of some columns, the last of which is filled with zeros. */
static inline extent panels(extent n, extent k) {
    return n > 0 && k > 0 ? (n + WIDTH - 1) / WIDTH * WIDTH * k : 0;
}

/* The same, of as many rows as are packed at a time. */
MAYBE_UNUSED static inline extent few_panels(extent n, extent k) {
    return panels(n, k < DEPTH ? k : DEPTH);
}

/* Put a matrix into panels; bk and bn are the steps from row to row and from column to column. */
static void pack(extent n, extent k, const real *restrict b, extent bk, extent bn, real *restrict packed) {
    for (extent j = 0; j < n; j += WIDTH) {
        const extent columns = n - j < WIDTH ? n - j : WIDTH;
        for (extent p = 0; p < k; p++) {
            for (extent w = 0; w < columns; w++) {
                packed[p * WIDTH + w] = b[p * bk + (j + w) * bn];
            }
            for (extent w = columns; w < WIDTH; w++) {
                packed[p * WIDTH + w] = 0;
            }
        }
        packed += k * WIDTH;
    }
}

/* A tile: some rows of a, times a panel whose rows are bk apart; `columns` of the result are wanted. */
INLINED void tile(const extent rows, extent k, const real *restrict a, extent am, extent ak, const real *restrict b,
                  extent bk, real *restrict c, extent cm, extent columns, int add) {
    real sum[HEIGHT][WIDTH];
    for (extent i = 0; i < rows; i++) {
        for (extent w = 0; w < WIDTH; w++) {
            sum[i][w] = 0;
        }
    }
    for (extent p = 0; p < k; p++) {
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

/* c = a b, or c += a b, where b is packed. */
static void multiply_packed(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *packed,
                            real *c, extent cm, int add) {
    for (extent j = 0; j < n; j += WIDTH) {
        const extent columns = n - j < WIDTH ? n - j : WIDTH;
        const real *panel = packed + j * k;
        extent i = 0;
        for (; i + HEIGHT <= m; i += HEIGHT) {
            if (columns == WIDTH) {
                tile(HEIGHT, k, a + i * am, am, ak, panel, WIDTH, c + i * cm + j, cm, WIDTH, add);
            } else {
                tile(HEIGHT, k, a + i * am, am, ak, panel, WIDTH, c + i * cm + j, cm, columns, add);
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
static void multiply_few(extent m, extent n, extent k, const real *restrict a, extent am, extent ak,
                         const real *restrict b, extent bk, extent bn, real *restrict c, extent cm, int add) {
    for (extent i = 0; i < m; i++) {
        extent j = 0;
        for (; bn == 1 && j + WIDTH <= n; j += WIDTH) {
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

/* c = a b, or c += a b, for matrices of m, k and n rows and columns whose entries are any steps apart. */
MAYBE_UNUSED static void multiply(extent m, extent n, extent k, const real *a, extent am, extent ak, const real *b,
                                  extent bk, extent bn, real *c, extent cm, int add, real *packed) {
    if (m < FEW || k == 0) {
        multiply_few(m, n, k, a, am, ak, b, bk, bn, c, cm, add);
        return;
    }
    for (extent p = 0; p < k; p += DEPTH) {
        const extent depth = k - p < DEPTH ? k - p : DEPTH;
        pack(n, depth, b + p * bk, bk, bn, packed);
        multiply_packed(m, n, depth, a + p * ak, am, ak, packed, c, cm, add || p > 0);
    }
}
"""
