package media

import "math/bits"

// webmTwin is what the naive twin finds in a whole stream.
type webmTwin struct {
	init     []byte
	clusters []int // first bytes of all
	points   []int // first bytes of those that are sync points
}

// readWebM is a naive twin of the parser, for lawful streams that are whole. It knows no
// levels: Segment, Cluster and BlockGroup are a header and nothing else, and what stands
// in them comes after it. Its points are of all documents.
func readWebM(b []byte) (w webmTwin) {
	var video byte
	var clustered, seen, key bool
	group := -1 // where the open BlockGroup ends
	for at := 0; at < len(b); {
		id, size, data := twinElement(b, at)
		if group >= 0 && at >= group {
			if seen && key {
				w.points = append(w.points, w.clusters[len(w.clusters)-1])
				key = false
			}
			group = -1
		}
		end := data + size
		switch id {
		case 0x1A45DFA3: // EBML
			w.init, video, clustered = append([]byte(nil), b[at:end]...), 0, false
		case 0x18538067: // Segment
			w.init = append(w.init, b[at:data]...)
			end = data
		case 0x1549A966, 0x1654AE6B: // Info, Tracks
			if !clustered {
				w.init = append(w.init, b[at:end]...)
			}
			if id == 0x1654AE6B {
				video = twinVideo(b[data:end])
			}
		case 0x1F43B675: // Cluster
			w.clusters = append(w.clusters, at)
			clustered, seen, key = true, false, false
			if video == 0 {
				w.points = append(w.points, at)
			}
			end = data
		case 0xA0: // BlockGroup
			group, end = end, data
		case 0xA1, 0xA3: // Block, SimpleBlock
			if b[data]&0x7F == video && !seen {
				seen, key = true, true
				if id == 0xA3 {
					if b[data+3]&0x80 != 0 {
						w.points = append(w.points, w.clusters[len(w.clusters)-1])
					}
					key = false
				}
			}
		case 0xFB: // ReferenceBlock
			key = false
		}
		at = end
	}
	if group >= 0 && seen && key {
		w.points = append(w.points, w.clusters[len(w.clusters)-1])
	}
	return w
}

// twinElement reads the header at at; data is where its data begin. The size of an element
// of unknown size means nothing.
func twinElement(b []byte, at int) (id, size, data int) {
	n := bits.LeadingZeros8(b[at]) + 1
	for _, c := range b[at : at+n] {
		id = id<<8 | int(c)
	}
	at += n
	n = bits.LeadingZeros8(b[at]) + 1
	size = int(b[at]) & (0xFF >> n)
	for _, c := range b[at+1 : at+n] {
		size = size<<8 | int(c)
	}
	return id, size, at + n
}

// twinVideo is the number of the first video track in Tracks' data, below 128.
func twinVideo(b []byte) (number byte) {
	for at := 0; at < len(b); {
		id, size, data := twinElement(b, at)
		at = data
		switch {
		case id == 0xD7:
			number = b[data]
		case id == 0x83 && b[data] == 1:
			return number
		}
		if id != 0xAE {
			at += size
		}
	}
	return 0
}
