package netfilter

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// A step of a script: '+' asks for a place and gets it, '-' asks and is refused,
// '/' gives one back; open is what Open says afterwards.
type step struct {
	do   byte
	addr string
	open int
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		script []step
	}{
		{"limit of 2", Config{MaxIPConcurrentConnections: 2}, []step{
			{'+', "10.0.0.1", 1}, {'+', "10.0.0.1", 2}, {'-', "10.0.0.1", 2}, {'-', "10.0.0.1", 2},
			{'+', "10.0.0.2", 3}, {'/', "10.0.0.1", 2}, {'+', "10.0.0.1", 3}, {'-', "10.0.0.1", 3},
			{'/', "10.0.0.1", 2}, {'/', "10.0.0.1", 1}, {'/', "10.0.0.2", 0},
		}},
		{"given back too often", Config{MaxIPConcurrentConnections: 1}, []step{
			{'/', "10.0.0.1", 0}, {'/', "10.0.0.1", 0}, {'+', "10.0.0.1", 1}, {'-', "10.0.0.1", 1},
			{'/', "10.0.0.2", 1}, {'/', "10.0.0.1", 0}, {'/', "10.0.0.1", 0}, {'+', "10.0.0.1", 1}, {'-', "10.0.0.1", 1},
		}},
		{"mapped is IPv4", Config{MaxIPConcurrentConnections: 2}, []step{
			{'+', "10.0.0.1", 1}, {'+', "::ffff:10.0.0.1", 2}, {'-', "10.0.0.1", 2}, {'-', "::ffff:a00:1", 2},
			{'/', "::ffff:10.0.0.1", 1}, {'/', "::ffff:10.0.0.1", 0},
		}},
		{"a zone does not count", Config{MaxIPConcurrentConnections: 1}, []step{
			{'+', "fe80::1%eth0", 1}, {'-', "fe80::1%eth1", 1}, {'-', "fe80::1", 1}, {'/', "fe80::1", 0},
		}},
		{"0 is no limit, but counted", Config{}, []step{
			{'+', "10.0.0.1", 1}, {'+', "10.0.0.1", 2}, {'+', "10.0.0.1", 3}, {'/', "10.0.0.1", 2},
			{'/', "10.0.0.1", 1}, {'/', "10.0.0.1", 0}, {'/', "10.0.0.1", 0},
		}},
		{"exempt", Config{MaxIPConcurrentConnections: 1, ConcurrentLimitWhitelist: []string{"10.0.0.0/8"}}, []step{
			{'+', "10.0.0.1", 0}, {'+', "10.0.0.1", 0}, {'+', "::ffff:10.0.0.1", 0}, {'/', "10.0.0.1", 0},
			{'+', "11.0.0.1", 1}, {'-', "11.0.0.1", 1}, {'/', "10.0.0.1", 1}, {'/', "11.0.0.1", 0},
		}},
		{"all exempt", Config{MaxIPConcurrentConnections: 1, ConcurrentLimitWhitelist: []string{"*"}}, []step{
			{'+', "10.0.0.1", 0}, {'+', "10.0.0.1", 0}, {'/', "10.0.0.1", 0}, {'+', "::1", 0}, {'+', "::1", 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFilter(t, c.config)
			for i, s := range c.script {
				a := netip.MustParseAddr(s.addr)
				switch s.do {
				case '+', '-':
					if f.Acquire(a) != (s.do == '+') {
						t.Fatalf("step %d: %c%s went the other way", i, s.do, s.addr)
					}
				case '/':
					f.Release(a)
				}
				if f.Open() != s.open {
					t.Fatalf("step %d, %c%s: open %d, want %d", i, s.do, s.addr, f.Open(), s.open)
				}
				checkPlaces(t, f)
			}
		})
	}
}

// checkPlaces checks what the fields of a filter promise.
func checkPlaces(t *testing.T, f *Filter) {
	t.Helper()
	sum := 0
	for a, n := range f.places {
		if n <= 0 || f.limit > 0 && n > f.limit || a.Zone() != "" || a.Is4In6() {
			t.Fatalf("%s has %d places", a, n)
		}
		sum += n
	}
	if sum != f.open {
		t.Fatalf("open %d, places %d", f.open, sum)
	}
}

// Addresses that come and go leave nothing behind.
func TestMapShrinks(t *testing.T) {
	f := newFilter(t, Config{MaxIPConcurrentConnections: 4})
	a := netip.MustParseAddr("2001:db8::")
	for range 10000 {
		f.Acquire(a)
		f.Release(a)
		a = a.Next()
	}
	if len(f.places) != 0 || f.Open() != 0 {
		t.Errorf("%d addresses, %d places left", len(f.places), f.Open())
	}
}

// Many goroutines take and give back places of few addresses: nobody ever sees
// more than the limit, and in the end nothing is taken.
func TestConcurrentPlaces(t *testing.T) {
	const limit, goroutines, rounds = 3, 16, 2000
	f := newFilter(t, Config{
		PlayWhitelist:              []string{"10.0.0.0/24"},
		MaxIPConcurrentConnections: limit,
		ConcurrentLimitWhitelist:   []string{"10.0.0.0"},
	})
	var held [4]atomic.Int64
	var refused atomic.Int64
	var wg sync.WaitGroup
	for g := range goroutines {
		rnd := rand.New(rand.NewPCG(uint64(g), 1))
		wg.Go(func() {
			for range rounds {
				i := rnd.IntN(len(held))
				a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
				if rnd.IntN(2) == 0 {
					a = netip.AddrFrom16(a.As16())
				}
				if !f.MayPlay(a) {
					t.Errorf("%s may not play", a)
				}
				if !f.Acquire(a) {
					refused.Add(1)
					continue
				}
				if n := held[i].Add(1); i > 0 && n > limit {
					t.Errorf("%s holds %d places", a, n)
				}
				if n := f.Open(); n < 0 || n > limit*(len(held)-1) {
					t.Errorf("open %d", n)
				}
				held[i].Add(-1)
				f.Release(a)
			}
		})
	}
	wg.Wait()
	if f.Open() != 0 || len(f.places) != 0 {
		t.Errorf("open %d, %d addresses left", f.Open(), len(f.places))
	}
	t.Logf("%d of %d refused", refused.Load(), goroutines*rounds)
}

// All at once for one address: exactly as many as it may have get a place.
func TestRaceForPlaces(t *testing.T) {
	const limit = 4
	f := newFilter(t, Config{MaxIPConcurrentConnections: limit})
	a := netip.MustParseAddr("192.0.2.1")
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if f.Acquire(a) {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != limit || f.Open() != limit {
		t.Errorf("%d got a place, open %d", got.Load(), f.Open())
	}
}

// The tags say what the code checks.
func TestTags(t *testing.T) {
	tags := map[string]string{ // field: variable
		"PlayWhitelist":              varPlayWhitelist,
		"MaxIPConcurrentConnections": varMaxConnections,
		"ConcurrentLimitWhitelist":   varLimitWhitelist,
		"TrustedProxies":             varTrustedProxies,
		"ProxyProtocol":              varProxyProtocol,
	}
	config := reflect.TypeFor[Config]()
	if config.NumField() != len(tags) {
		t.Fatalf("%d fields", config.NumField())
	}
	for name, variable := range tags {
		field, ok := config.FieldByName(name)
		if !ok || field.Tag.Get("env") != variable || field.Tag.Get("env-description") == "" {
			t.Errorf("%s: tag %q", name, field.Tag)
		}
	}
	field, _ := config.FieldByName("MaxIPConcurrentConnections")
	if field.Tag.Get("min") != "0" || field.Tag.Get("max") != strconv.Itoa(maxConnectionsLimit) || field.Tag.Get("env-default") != "4" {
		t.Errorf("tag %q", field.Tag)
	}
}
