// The contract's calls about files; loaded when there are files to send or to show.
import type { UploadCalls } from '../state/upload.svelte';
import { callErrorOf } from './errors';
import { AssetService } from './gen/chatto/api/v1/asset_service_pb';
import { AssetUploadService, type AssetUpload } from './gen/chatto/api/v1/asset_upload_service_pb';
import { clientOf } from './transport';

export const assets = clientOf(AssetService);
const service = clientOf(AssetUploadService);

/** A chunk takes longer than another call: 512 KiB in this time are 9 KB a second. */
const CHUNK_TIMEOUT_MS = 60_000;

const receiptOf = (upload: AssetUpload | undefined) => {
  if (!upload) throw new Error('the server sent no upload');
  return {
    id: upload.uploadId,
    offset: Number(upload.committedOffset),
    chunkMaxBytes: upload.maxChunkSize,
    assetId: upload.assetId,
  };
};

export const uploadCalls: Omit<UploadCalls, 'onSignedOut'> = {
  create: async (roomId, { name, type, size }, sha256) =>
    receiptOf((await service.createUpload({ roomId, filename: name, contentType: type, size: BigInt(size), sha256 })).upload),
  chunk: async (uploadId, offset, content, chunkSha256) =>
    receiptOf(
      (
        await service.uploadChunk(
          { uploadId, offset: BigInt(offset), content: content as Uint8Array<ArrayBuffer>, chunkSha256 },
          { timeoutMs: CHUNK_TIMEOUT_MS },
        )
      ).upload,
    ),
  receipt: async (uploadId) => receiptOf((await service.getUpload({ uploadId })).upload),
  complete: async (uploadId) => receiptOf((await service.completeUpload({ uploadId })).upload),
  cancel: async (uploadId) => void (await service.cancelUpload({ uploadId })),
  errorOf: callErrorOf,
};
