package host

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
)

// A boltFile is the content of a bbolt database (go.etcd.io/bbolt: internal/common). It is read
// without that package, which maps a file into memory and trusts it: the copy of a file that is
// being written may have any content.
type boltFile struct {
	boltMeta
	data []byte
	left int64 // bytes of elements that can still come: a damaged file can have loops
}

// boltMeta is a meta page. It says where the tree of a transaction begins.
type boltMeta struct {
	pageSize, root uint64
	transaction    uint64
}

const (
	boltMagic, boltVersion       = 0xED0CDAED, 2
	boltHeader                   = 16 // bytes of a page, an element and the head of a bucket
	boltBranch, boltLeaf         = 1, 2
	boltMetaBytes, boltIsABucket = 64, 1
)

var errDamaged = errors.New("the database is damaged, or of an unknown version")

// readBoltMeta returns the meta page of the last transaction. There are two, at the start of the
// first two pages, which are written in turn.
func readBoltMeta(file io.ReaderAt) (newest boltMeta, err error) {
	for offset := int64(0); offset <= 1<<24; offset = max(1<<10, 2*offset) {
		var page [boltHeader + boltMetaBytes]byte
		if n, _ := file.ReadAt(page[:], offset); n < len(page) {
			break
		}
		meta := page[boltHeader:]
		sum := fnv.New64a()
		sum.Write(meta[:boltMetaBytes-8])
		m := boltMeta{uint64(uint32At(meta, 8)), uint64At(meta, 16), uint64At(meta, 48)}
		isValid := uint32At(meta, 0) == boltMagic && uint32At(meta, 4) == boltVersion && sum.Sum64() == uint64At(meta, 56)
		if isValid && m.pageSize >= 1<<10 && m.pageSize <= 1<<24 && (offset == 0 || m.pageSize == uint64(offset)) && m.transaction >= newest.transaction {
			newest = m
		}
	}
	if newest.pageSize == 0 {
		return boltMeta{}, errDamaged
	}
	return newest, nil
}

func uint32At(data []byte, at int) uint32 { return binary.NativeEndian.Uint32(data[at:]) }
func uint64At(data []byte, at int) uint64 { return binary.NativeEndian.Uint64(data[at:]) }

// slice returns length bytes of data, or an error if it has fewer.
func slice(data []byte, from, length uint64) ([]byte, error) {
	if from > uint64(len(data)) || length > uint64(len(data))-from {
		return nil, errDamaged
	}
	return data[from : from+length], nil
}

// walk calls visit for each key of the tree that begins at a page, in order. The value of a bucket
// is for walkBucket.
func (f *boltFile) walk(page uint64, visit func(key, value []byte, isBucket bool) error) error {
	if page > uint64(len(f.data))/f.pageSize {
		return errDamaged
	}
	return f.walkPage(f.data[page*f.pageSize:], visit)
}

// walkBucket is walk for the value of a bucket. A small bucket is a page inside of the value.
func (f *boltFile) walkBucket(value []byte, visit func(key, value []byte, isBucket bool) error) error {
	if len(value) < boltHeader {
		return errDamaged
	}
	if root := uint64At(value, 0); root != 0 {
		return f.walk(root, visit)
	}
	return f.walkPage(value[boltHeader:], visit)
}

func (f *boltFile) walkPage(page []byte, visit func(key, value []byte, isBucket bool) error) error {
	if len(page) < boltHeader {
		return errDamaged
	}
	flags, count := binary.NativeEndian.Uint16(page[8:]), uint64(binary.NativeEndian.Uint16(page[10:]))
	if _, err := slice(page, boltHeader, count*boltHeader); err != nil || flags != boltBranch && flags != boltLeaf {
		return errDamaged
	}
	for i := range count {
		if f.left -= boltHeader; f.left < 0 {
			return errDamaged
		}
		at := boltHeader * (1 + i)
		element := page[at:]
		if flags == boltBranch {
			if err := f.walk(uint64At(element, 8), visit); err != nil {
				return err
			}
			continue
		}
		keySize, valueSize := uint64(uint32At(element, 8)), uint64(uint32At(element, 12))
		pair, err := slice(element, uint64(uint32At(element, 4)), keySize+valueSize)
		if f.left -= int64(len(pair)); err != nil || f.left < 0 {
			return errDamaged
		}
		if err := visit(pair[:keySize], pair[keySize:], uint32At(element, 0)&boltIsABucket != 0); err != nil {
			return err
		}
	}
	return nil
}
