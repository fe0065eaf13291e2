//go:build race

package wstest

const slowness = 6
